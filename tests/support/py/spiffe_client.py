"""The `spiffe` package as a client of a Workload API: spiffe_client.py SOCKET COUNT

Takes COUNT identities one after the other, as they are renewed. For each it prints a line of JSON: the id, the serial number,
and how many roots there are for its trust domain. The package verifies what it is given.
"""

import json
import queue
import sys

from spiffe import X509Source


def main(socket, count):
    news = queue.Queue()
    source = X509Source(socket_path=f"unix://{socket}")
    source.subscribe_for_updates(lambda: news.put(None))
    seen = set()
    while True:
        context = source.get_x509_context()
        svid = context.default_svid
        serial = f"{svid.leaf.serial_number:032x}"
        if serial not in seen:
            seen.add(serial)
            bundle = context.x509_bundle_set.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
            line = {"id": str(svid.spiffe_id), "serial": serial, "roots": len(bundle.x509_authorities)}
            print(json.dumps(line), flush=True)
        if len(seen) == count:
            return
        news.get(timeout=60)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
