"""Parker Flight's booking service, as it would be on `kms_core`: fields sealed over HTTP, a start and an end in order.

Read `bookings.py` for what an application does with the core, `service.py` for its life, `web.py` for its errors,
`readiness.py` for its health. Starlette and uvicorn serve it.
"""
