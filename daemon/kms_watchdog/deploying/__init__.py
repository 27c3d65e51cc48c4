"""What a platform is given so that it runs the watchdog: rendered from the configuration."""
