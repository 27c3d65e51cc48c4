-- cloudwatch.db as version 0.1.0 wrote it.
PRAGMA user_version=1;
BEGIN TRANSACTION;
CREATE TABLE waiting (
    id INTEGER PRIMARY KEY,
    region TEXT NOT NULL,
    period_start INTEGER NOT NULL,
    body TEXT NOT NULL
);
INSERT INTO "waiting" VALUES(1,'us-east-1',1767225600,'{"namespace":"ParkerFlight/KMS","name":"CanaryRuns","unit":"Count","dimensions":[["Region","eu-west-1"]],"period_start":1767225600,"resolution":60,"values":[9.0],"counts":[1.0]}');
INSERT INTO "waiting" VALUES(2,'us-east-1',1767225660,'{"namespace":"ParkerFlight/KMS","name":"CanaryRuns","unit":"Count","dimensions":[["Region","eu-west-1"]],"period_start":1767225660,"resolution":60,"values":[9.0],"counts":[1.0]}');
INSERT INTO "waiting" VALUES(3,'us-west-2',1767225720,'{"namespace":"ParkerFlight/KMS","name":"CanaryRuns","unit":"Count","dimensions":[["Region","eu-west-1"]],"period_start":1767225720,"resolution":60,"values":[9.0],"counts":[1.0]}');
CREATE INDEX by_region ON waiting (region, id);
COMMIT;
