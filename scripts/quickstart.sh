#!/usr/bin/env bash
# From a checkout to an answer: secrets, containers, an organization, an OpenAI key, a token, and a curl to paste.
# Asks for the OpenAI key and for nothing else; takes it from OPENAI_API_KEY when that is set. May be run again at any time:
# what is there is left as it is.
set -euo pipefail
umask 077
cd "$(dirname "$0")/.."

readonly ORGANIZATION=${ORGANIZATION:-Default Organization}
readonly TOKEN_DAYS=7
readonly HEALTH_TIMEOUT_SECONDS=${HEALTH_TIMEOUT_SECONDS:-180}
readonly CONTAINER=openai-proxy-api
readonly VOLUME=openai_inference_proxy_postgres

main() {
  find_compose
  make_env
  refuse_taken_port
  say 'Building the image and starting the containers (the first time takes some minutes)...'
  compose up -d --build || fail 'The containers did not start: see the lines above.'
  wait_for_health
  make_access
}

find_compose() {
  command -v docker >/dev/null || fail 'There is no "docker" command: install Docker first, https://docs.docker.com/engine/install/.'
  docker info >/dev/null 2>&1 ||
    fail 'The Docker daemon does not answer: start it ("sudo systemctl start docker", or Docker Desktop), and make sure that this user may use it ("docker info" has to work).'
  if docker compose version >/dev/null 2>&1; then
    compose_command=(docker compose)
  elif command -v docker-compose >/dev/null; then
    compose_command=(docker-compose)
  else
    fail 'There is neither "docker compose" nor "docker-compose": install the Compose plugin, https://docs.docker.com/compose/install/.'
  fi
}

compose() {
  "${compose_command[@]}" --env-file .env -f docker/docker-compose.yml "$@"
}

# Values that are there are never changed: what was sealed, signed or set up with them would be lost.
make_env() {
  local missing=()
  for name in POSTGRES_PASSWORD JWT_SECRET_KEY ENCRYPTION_KEY; do
    has_value "$name" || missing+=("$name")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    if docker volume inspect "$VOLUME" >/dev/null 2>&1; then
      fail "There is a database from before (the volume $VOLUME), but .env lacks ${missing[*]}: restore .env from your backup. To begin anew and lose everything in that database: docker volume rm $VOLUME"
    fi
    local addition
    addition=$(for name in "${missing[@]}"; do echo "$name=$(new_value "$name")"; done)
    if [ -e .env ]; then
      # A file that somebody wrote may not end in a line end.
      if [ -n "$(tail -c 1 .env)" ]; then addition=$'\n'"$addition"; fi
      printf '%s\n' "$addition" >>.env
      say "Added to .env, which had none: ${missing[*]}."
    else
      local head='# Secrets of this installation, made by scripts/quickstart.sh.'
      (set -o noclobber && printf '%s\n' "$head" "$addition" >.env) 2>/dev/null ||
        fail 'The file .env cannot be made here, or another process has just made it: run this again.'
      say 'Made .env with new secrets. Keep a copy of it: without it no stored OpenAI key can be opened again.'
    fi
  fi
  # Older versions of Compose look for it beside the compose file.
  [ -e docker/.env ] || ln -sf ../.env docker/.env
}

has_value() {
  [ -e .env ] && grep -Eq "^(export )?$1=." .env
}

new_value() {
  case "$1" in
    # It becomes part of a URL.
    POSTGRES_PASSWORD) random_bytes 24 | od -An -v -tx1 | tr -d ' \n' ;;
    JWT_SECRET_KEY) random_bytes 48 | base64 | tr -d '\n' | tr '+/' '-_' ;;
    ENCRYPTION_KEY) random_bytes 32 | base64 | tr -d '\n' ;;
  esac
}

random_bytes() {
  head -c "$1" /dev/urandom
}

env_value() {
  sed -n "s/^$1=//p" .env | tail -n 1 | tr -d "\"'"
}

refuse_taken_port() {
  port=${PORT:-$(env_value PORT)}
  port=${port:-8000}
  [ "$(inspect '{{.State.Running}}')" = true ] && return
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    fail "Port $port is taken by another process: stop that, or add a line such as PORT=8001 to .env and run this again."
  fi
}

wait_for_health() {
  say 'Waiting for the server...'
  local health
  for ((waited = 0; waited < HEALTH_TIMEOUT_SECONDS; waited++)); do
    health=$(inspect '{{.State.Health.Status}}')
    [ "$health" = healthy ] && return
    # Restarting, because it exits at once: its log says why.
    [ "$(inspect '{{.State.Restarting}}')" = true ] && break
    sleep 1
  done
  docker logs --tail 20 "$CONTAINER" >&2 || true
  fail "The server is not healthy (${health:-no container}): its last lines are above, all of them in \"docker logs $CONTAINER\". docs/administration.md explains each message under Troubleshooting."
}

inspect() {
  docker inspect -f "$1" "$CONTAINER" 2>/dev/null || true
}

make_access() {
  local organizations
  organizations=$(proxy list-orgs)
  if ! grep -qxF "Name: $ORGANIZATION" <<<"$organizations"; then
    proxy create-org "$ORGANIZATION" >/dev/null
    say "Made the organization \"$ORGANIZATION\"."
  fi
  local access token organization_id keys has_key=yes
  access=$(proxy create-jwt --org-name "$ORGANIZATION" --scope inference --days "$TOKEN_DAYS" --name quickstart --json)
  token=$(json_field token "$access")
  organization_id=$(json_field organization_id "$access")
  keys=$(proxy list-keys --org-id "$organization_id" --json)
  if ! grep -q '"is_active": true' <<<"$keys"; then make_key "$organization_id" || has_key=no; fi
  say ''
  say "The proxy is ready. Below is a token of $TOKEN_DAYS days; it is shown this once, and running this again makes another."
  if [ "$has_key" = no ]; then
    say 'Before the first request it needs an OpenAI key:'
    say "  docker exec -it $CONTAINER openai-proxy create-key $organization_id --name \"Default Key\""
  fi
  say ''
  cat <<CURL
curl http://localhost:$port/v1/responses \\
  -H "Authorization: Bearer $token" \\
  -H "X-User-ID: alice" \\
  -H "Content-Type: application/json" \\
  -d '{"model": "gpt-4o-mini", "input": "What is the capital of France?"}'
CURL
}

# The key goes through standard input: an argument could be seen by others.
make_key() {
  local key=${OPENAI_API_KEY:-}
  if [ -z "$key" ] && [ -t 0 ]; then
    read -rsp 'OpenAI key (not shown; Enter to do it later): ' key
    echo >&2
  fi
  [ -n "$key" ] || return 1
  printf '%s' "$key" | docker exec -i "$CONTAINER" openai-proxy create-key "$1" --name 'Default Key' >/dev/null
  say 'Sealed the OpenAI key.'
}

proxy() {
  docker exec "$CONTAINER" openai-proxy "$@" </dev/null
}

json_field() {
  printf '%s\n' "$2" | sed -n "s/^ *\"$1\": \"\(.*\)\",\{0,1\}$/\1/p"
}

say() {
  printf '%s\n' "$1" >&2
}

fail() {
  printf 'Error: %s\n' "$1" >&2
  exit 1
}

main "$@"
