-- history.db as version 0.1.0 wrote it.
PRAGMA user_version=1;
BEGIN TRANSACTION;
CREATE TABLE results (
    id INTEGER PRIMARY KEY,
    started_at REAL NOT NULL,
    canary TEXT NOT NULL,
    region TEXT NOT NULL,
    key TEXT NOT NULL,
    mode TEXT NOT NULL,
    outcome TEXT NOT NULL,
    body TEXT NOT NULL
);
INSERT INTO "results" VALUES(1,1767225600.0,'round_trip','us-east-1','general','live','OK','{"canary":"round_trip","region":"us-east-1","key":"general","mode":"live","outcome":"OK","reason":null,"error_code":"","request_id":"","started_at_utc":"2026-01-01T00:00:00+00:00","duration_seconds":0.02,"steps":{},"run_id":""}');
INSERT INTO "results" VALUES(2,1767225601.0,'round_trip','us-east-1','general','live','OK','{"canary":"round_trip","region":"us-east-1","key":"general","mode":"live","outcome":"OK","reason":null,"error_code":"","request_id":"","started_at_utc":"2026-01-01T00:00:01+00:00","duration_seconds":0.02,"steps":{},"run_id":""}');
INSERT INTO "results" VALUES(3,1767225602.0,'round_trip','us-east-1','general','live','OK','{"canary":"round_trip","region":"us-east-1","key":"general","mode":"live","outcome":"OK","reason":null,"error_code":"","request_id":"","started_at_utc":"2026-01-01T00:00:02+00:00","duration_seconds":0.02,"steps":{},"run_id":""}');
INSERT INTO "results" VALUES(4,1767225603.0,'round_trip','us-east-1','general','live','FAILED','{"canary":"round_trip","region":"us-east-1","key":"general","mode":"live","outcome":"FAILED","reason":"timeout","error_code":"ReadTimeout","request_id":"r-3","started_at_utc":"2026-01-01T00:00:03+00:00","duration_seconds":0.02,"steps":{},"run_id":""}');
INSERT INTO "results" VALUES(5,1767225604.0,'round_trip','us-east-1','general','live','OK','{"canary":"round_trip","region":"us-east-1","key":"general","mode":"live","outcome":"OK","reason":null,"error_code":"","request_id":"","started_at_utc":"2026-01-01T00:00:04+00:00","duration_seconds":0.02,"steps":{},"run_id":""}');
INSERT INTO "results" VALUES(6,1767225605.0,'round_trip','eu-west-1','general','live','BLIND','{"canary":"round_trip","region":"eu-west-1","key":"general","mode":"live","outcome":"BLIND","reason":"no_credentials","error_code":"","request_id":"","started_at_utc":"2026-01-01T00:00:05+00:00","duration_seconds":0.02,"steps":{},"run_id":""}');
INSERT INTO "results" VALUES(7,1767225606.0,'round_trip','us-east-1','general','drill','FAILED','{"canary":"round_trip","region":"us-east-1","key":"general","mode":"drill","outcome":"FAILED","reason":"timeout","error_code":"","request_id":"","started_at_utc":"2026-01-01T00:00:06+00:00","duration_seconds":0.02,"steps":{},"run_id":"20260101T000000Z-region-blackhole"}');
CREATE INDEX by_time ON results (started_at);
CREATE INDEX by_outcome ON results (outcome, id) WHERE outcome != 'OK';
COMMIT;
