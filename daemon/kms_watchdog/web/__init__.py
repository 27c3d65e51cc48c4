"""What the daemon serves: health, metrics, status page. Everything is answered from memory; nothing asks AWS."""
