-- name: database_exists
SELECT EXISTS (SELECT FROM pg_database WHERE datname = 'openbell')

-- name: create_database
CREATE DATABASE openbell
