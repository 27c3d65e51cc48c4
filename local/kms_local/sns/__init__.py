"""SNS in one region: topics, HTTP subscriptions, and notifications that are really delivered."""
