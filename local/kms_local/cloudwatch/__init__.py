"""CloudWatch in one region: metrics with exact dimensions, metric math, and alarms that are really evaluated."""
