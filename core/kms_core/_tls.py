"""A client's TLS context, made fit for many threads before any of them connects.

botocore gives all connections of a client one `SSLContext`, and urllib3 loads the certificate authorities into it again
for each connection, in the thread that opens it. The first load hangs OpenSSL's file lookup into the context's store,
which takes no lock (`X509_STORE_add_lookup`, crypto/x509/x509_lu.c of OpenSSL 3.0): two first connections at once can
leave a hole in that list, and the process dies of SIGSEGV where it is gone through, as a certificate is verified or the
context is freed. Later loads find the lookup there. Beside other work, eight threads at once broke one of the first
1,843 contexts seven times of seven; prepared, of twenty thousand none.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from typing import Any, TypeVar

C = TypeVar("C")


def prepared(client: C) -> C:
    """Return `client`, of botocore's, whose context and that of the proxy it goes through now have their file lookup.

    Call it where the client is made, before another thread has it. No authority is added: which are trusted is as it
    was. A botocore that is built otherwise inside is left as it is.
    """
    with contextlib.suppress(AttributeError, KeyError, TypeError):
        http: Any = client._endpoint.http_session  # type: ignore[attr-defined] # noqa: SLF001 - see above
        url = str(client.meta.endpoint_url)  # type: ignore[attr-defined] # botocore has no types
        _hang_in(http._get_connection_manager(url, http._proxy_config.proxy_url_for(url)))  # noqa: SLF001 - the same
    return client


def _hang_in(manager: Any) -> None:
    context = manager.connection_pool_kw["ssl_context"]
    with contextlib.suppress(ssl.SSLError):  # there is no certificate in it
        context.load_verify_locations(os.devnull)
