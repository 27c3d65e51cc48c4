"""A local AWS (KMS, CloudWatch, SNS, STS) and a Toxiproxy-compatible server."""
