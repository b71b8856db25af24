create table organizations (
  id uuid primary key, name varchar(255) not null, created_at timestamptz default now(), updated_at timestamptz default now()
);
create table users (
  id uuid primary key, organization_id uuid not null references organizations, user_id varchar(255) not null,
  created_at timestamptz default now(), constraint _org_user_uc unique (organization_id, user_id)
);
create table api_keys (
  id uuid primary key, organization_id uuid not null references organizations, user_id uuid references users,
  synthetic_key varchar(255) not null unique, openai_api_key text not null, is_active boolean, name varchar(255), description text,
  created_at timestamptz default now(), updated_at timestamptz default now()
);
create table sessions (
  id uuid primary key, user_id uuid not null references users, session_id varchar(255) not null unique,
  started_at timestamptz default now(), ended_at timestamptz
);
create table personas (
  id uuid primary key, organization_id uuid not null references organizations, user_id uuid references users,
  name varchar(255) not null, description text, content text not null, persona_metadata jsonb, is_active boolean,
  created_at timestamptz default now(), updated_at timestamptz default now(),
  constraint _org_persona_name_uc unique (organization_id, name)
);
create table requests (
  id uuid primary key, request_id varchar(255) not null unique, response_id varchar(255),
  session_id uuid not null references sessions, user_id uuid not null references users,
  api_key_id uuid not null references api_keys, persona_id uuid references personas, model varchar(100) not null,
  request_payload json not null, response_payload json, status varchar(50) not null, error_message text,
  rating integer constraint check_rating_values check (rating in (-1, 0, 1)), rating_timestamp timestamptz, rating_feedback text,
  created_at timestamptz default now(), completed_at timestamptz
);
create table usage_logs (
  id uuid primary key, request_id uuid not null references requests, input_tokens integer, output_tokens integer,
  reasoning_tokens integer, total_tokens integer, model varchar(100), cost_usd numeric(10, 6), logged_at timestamptz default now()
);
create table analysis_configs (
  id uuid primary key, organization_id uuid not null references organizations, name varchar(255) not null, description text,
  config json not null, is_active boolean, created_by uuid references users, created_at timestamptz default now(),
  updated_at timestamptz default now(), constraint _org_analysis_config_name_uc unique (organization_id, name)
);
create table analysis_results (
  id uuid primary key, request_id uuid not null references requests, analysis_config_id uuid references analysis_configs,
  config_snapshot json not null, analysis_type varchar(100), results json not null, model_used varchar(100), tokens_used integer,
  cost_usd numeric(10, 6), created_at timestamptz default now()
);
