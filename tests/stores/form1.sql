CREATE TABLE files ( id VARCHAR(40) NOT NULL, created_at FLOAT NOT NULL, filename VARCHAR NOT NULL, bytes INTEGER NOT NULL, purpose VARCHAR NOT NULL, status VARCHAR NOT NULL, faults JSON NOT NULL, training_faults JSON NOT NULL, labels JSON NOT NULL, num_rows INTEGER NOT NULL, PRIMARY KEY (id) );
CREATE INDEX ix_files_created_at ON files (created_at);
CREATE TABLE jobs ( id VARCHAR(40) NOT NULL, created_at FLOAT NOT NULL, finished_at DOUBLE, status VARCHAR(20) NOT NULL, priority INTEGER NOT NULL, model VARCHAR NOT NULL, training_file VARCHAR(40) NOT NULL, validation_file VARCHAR(40), suffix VARCHAR, seed INTEGER NOT NULL, hyperparameters JSON NOT NULL, meta JSON NOT NULL, error JSON, fine_tuned_model VARCHAR, trained_tokens INTEGER, progress JSON, metrics JSON, worker VARCHAR, lease_until DOUBLE NOT NULL, attempts INTEGER NOT NULL, request_key VARCHAR, PRIMARY KEY (id), FOREIGN KEY(training_file) REFERENCES files (id), FOREIGN KEY(validation_file) REFERENCES files (id) );
CREATE INDEX ix_jobs_created_at ON jobs (created_at);
CREATE INDEX ix_jobs_request_key ON jobs (request_key);
CREATE INDEX ix_jobs_status ON jobs (status);
CREATE TABLE events ( number INTEGER NOT NULL, id VARCHAR(40) NOT NULL, job_id VARCHAR(40) NOT NULL, "key" VARCHAR NOT NULL, created_at DOUBLE NOT NULL, level VARCHAR NOT NULL, message VARCHAR NOT NULL, type VARCHAR NOT NULL, data JSON NOT NULL, PRIMARY KEY (number), UNIQUE (job_id, "key"), UNIQUE (id), FOREIGN KEY(job_id) REFERENCES jobs (id) );
CREATE INDEX events_by_job ON events (job_id, number);
