-- What a usage is made of when not all of it has one price, such as images that a response made on the side or the requests of a
-- batch: a list of model, service tier and usage, which together are what the row costs. Null: the row's own usage is all.
alter table attempts add column usage_parts jsonb;
