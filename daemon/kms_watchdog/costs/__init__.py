"""What keys, canaries, metrics, alarms and dashboards cost a month: a dated table of prices, and counts."""
