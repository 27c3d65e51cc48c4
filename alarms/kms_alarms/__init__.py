"""The one table of objectives and alarms; renders and evaluates."""
