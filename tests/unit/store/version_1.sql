BEGIN TRANSACTION;
CREATE TABLE documents (key TEXT NOT NULL PRIMARY KEY, text TEXT NOT NULL) STRICT;
INSERT INTO "documents" VALUES('clock','text');
CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        at_us INTEGER NOT NULL,
        kind TEXT NOT NULL,
        job_id TEXT,
        state TEXT,
        detail TEXT NOT NULL
    ) STRICT
    ;
INSERT INTO "events" VALUES(1,1772409600000000,'submitted','full','suspended','');
INSERT INTO "events" VALUES(2,1772409600000000,'submitted','old','queued','');
INSERT INTO "events" VALUES(3,1772409660000000,'held','old','held','by the user');
CREATE TABLE jobs (
        job_id TEXT NOT NULL PRIMARY KEY,
        version INTEGER NOT NULL,
        state TEXT NOT NULL,
        project TEXT NOT NULL,
        submitted_us INTEGER NOT NULL,
        idempotency_key TEXT UNIQUE,
        request_digest TEXT,
        record TEXT NOT NULL
    ) STRICT
    ;
INSERT INTO "jobs" VALUES('full',1,'suspended','nlp',1772409600000000,'k','d','{"job":{"job_id":"full","name":"finetune-7b","command":["python","train.py","--name","Größe 大 🌱 \n\"''\\"],"submitted_at":"2026-03-02T00:00:00Z","deadline_at":"2026-03-03T00:00:00Z","earliest_start_at":"2026-03-02T00:00:00Z","start_by_at":"2026-03-02T12:30:00Z","options":[{"accelerator":"H100","gpus":1,"num_nodes":1,"duration_s":14400,"power_w":1000.0,"is_power_estimated":false},{"accelerator":"A100","gpus":8,"num_nodes":2,"duration_s":14400,"power_w":0.30000000000000004,"is_power_estimated":false}],"duration_p95_s":18000,"interruptible":{"min_chunk_s":1,"checkpoint_cost_s":2,"max_interruptions":3},"regions":["r-de","r-fr"],"forbid_regions":["r-us"],"priority":-7,"project":"nlp","max_retries":2,"env":[["KEY","v=1"],["EMPTY",""]],"workdir":"/data/ä b"},"state":"suspended","version":1,"updated_at":"2026-03-02T00:00:00Z","baseline":{"cluster_id":"c-de","region_id":"r-de","zone_id":"DE","accelerator":"H100","gpus":1,"power_w":1000.0,"pue":1.0,"window":{"start_at":"2026-03-02T00:00:00Z","end_at":"2026-03-02T04:00:00Z"},"planned_g":null},"wanted":"hold","placement":{"job_id":"full","cluster_id":"c-de","region_id":"r-de","zone_id":"DE","option":1,"accelerator":"A100","gpus":8,"power_w":1234.5,"pue":1.23,"segments":[{"start_at":"2026-03-02T01:00:00Z","end_at":"2026-03-02T02:00:00Z"},{"start_at":"2026-03-02T03:00:00Z","end_at":"2026-03-02T04:00:00Z"}],"energy_kwh":0.3333333333333333,"planned_g":1e-7,"provenance":{"source":"made","signal":"average","scope":"lifecycle","quality":"typical","issued_at":"2026-03-01T23:00:00Z","is_fallback":true}},"runs":[{"attempt":1,"segment":0,"cluster_id":"c-de","option":0,"power_w":1000.0,"pue":1.0,"ref":"4711","spans":[{"start_at":"2026-03-02T01:00:00Z","end_at":"2026-03-02T02:00:00Z"}],"is_ended":true,"exit_code":75,"work_s":3599.999999,"energy_kwh":0.5,"pause_requested_at":null,"planned_g":2.5}],"reason":"checkpointed","is_degraded":true,"is_pinned":true}');
INSERT INTO "jobs" VALUES('old',2,'held','default',1772409600000000,NULL,NULL,'{"job":{"job_id":"old","name":"train","command":["true"],"submitted_at":"2026-03-02T00:00:00Z","deadline_at":"2026-03-03T00:00:00Z","earliest_start_at":"2026-03-02T00:00:00Z","start_by_at":null,"options":[{"accelerator":"H100","gpus":1,"num_nodes":1,"duration_s":14400,"power_w":1000.0,"is_power_estimated":false}],"duration_p95_s":null,"interruptible":null,"regions":[],"forbid_regions":[],"priority":0,"project":"default","max_retries":0,"env":[],"workdir":null},"state":"held","version":2,"updated_at":"2026-03-02T00:01:00Z","baseline":{"cluster_id":"c-de","region_id":"r-de","zone_id":"DE","accelerator":"H100","gpus":1,"power_w":1000.0,"pue":1.0,"window":{"start_at":"2026-03-02T00:00:00Z","end_at":"2026-03-02T04:00:00Z"},"planned_g":1600.0},"wanted":"run","placement":null,"runs":[],"reason":"now held","is_degraded":false,"is_pinned":false}');
CREATE TABLE ledger (
        job_id TEXT NOT NULL PRIMARY KEY,
        submitted_us INTEGER NOT NULL,
        is_settled INTEGER NOT NULL,
        entry TEXT NOT NULL
    ) STRICT
    ;
INSERT INTO "ledger" VALUES('done',1772409600000000,1,'{"job_id":"done","name":"train","project":"default","state":"succeeded","submitted_at":"2026-03-02T00:00:00Z","deadline_at":"2026-03-03T00:00:00Z","started_at":"2026-03-02T00:00:00Z","ended_at":"2026-03-02T01:00:00Z","has_missed_deadline":false,"accelerator":"H100","gpus":1,"is_power_estimated":false,"runs":[{"attempt":1,"segment":0,"cluster_id":"c-de","region_id":"r-de","zone_id":"DE","cluster_ref":null,"window":{"start_at":"2026-03-02T00:00:00Z","end_at":"2026-03-02T01:00:00Z"},"power_w":1000.0,"pue":1.0,"energy_kwh":1.0,"is_energy_measured":false,"emissions_g":1.0,"provenance":{"source":"made","signal":"average","scope":"lifecycle","quality":"measured","issued_at":null,"is_fallback":false}}],"energy_kwh":1.0,"planned_g":null,"emissions_g":1.0,"baseline":{"cluster_id":"c-de","region_id":"r-de","zone_id":"DE","window":{"start_at":"2026-03-02T00:00:00Z","end_at":"2026-03-02T01:00:00Z"},"power_w":1000.0,"pue":1.0,"energy_kwh":1.0,"planned_g":1600.0,"emissions_g":1.0,"provenance":{"source":"made","signal":"average","scope":"lifecycle","quality":"measured","issued_at":null,"is_fallback":false}},"saving_g":0.0,"is_settled":true,"is_degraded":false}');
CREATE INDEX jobs_by_state ON jobs (state, submitted_us, job_id);
CREATE INDEX jobs_by_project ON jobs (project, state, submitted_us, job_id);
CREATE INDEX events_by_job ON events (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX events_by_kind ON events (kind);
CREATE INDEX ledger_by_submission ON ledger (submitted_us, job_id);
CREATE INDEX ledger_unsettled ON ledger (submitted_us, job_id) WHERE is_settled = 0;
COMMIT;
PRAGMA application_id = 1198680420;
PRAGMA user_version = 1;
