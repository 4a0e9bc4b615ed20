"""What a TLS port offers, by sslyze: an independent client that tries every version, suite and known weakness.

In: address, port, certificate, key; the last two for the probes that need a whole handshake.
Out (JSON): connected, versions (name -> accepted suites), probes (name -> finding), errors.
"""

import json
import sys
from pathlib import Path

from sslyze import (
    ClientAuthenticationCredentials,
    ScanCommand,
    Scanner,
    ServerNetworkConfiguration,
    ServerNetworkLocation,
    ServerScanRequest,
)

VERSIONS = {
    "SSL 2.0": ScanCommand.SSL_2_0_CIPHER_SUITES,
    "SSL 3.0": ScanCommand.SSL_3_0_CIPHER_SUITES,
    "TLS 1.0": ScanCommand.TLS_1_0_CIPHER_SUITES,
    "TLS 1.1": ScanCommand.TLS_1_1_CIPHER_SUITES,
    "TLS 1.2": ScanCommand.TLS_1_2_CIPHER_SUITES,
    "TLS 1.3": ScanCommand.TLS_1_3_CIPHER_SUITES,
}
PROBES = {
    "compression": (ScanCommand.TLS_COMPRESSION, lambda r: r.supports_compression),
    "early_data": (ScanCommand.TLS_1_3_EARLY_DATA, lambda r: r.supports_early_data),
    "heartbleed": (ScanCommand.HEARTBLEED, lambda r: r.is_vulnerable_to_heartbleed),
    "ccs_injection": (ScanCommand.OPENSSL_CCS_INJECTION, lambda r: r.is_vulnerable_to_ccs_injection),
    "robot": (ScanCommand.ROBOT, lambda r: r.robot_result.name),
    "client_renegotiation": (
        ScanCommand.SESSION_RENEGOTIATION,
        lambda r: r.is_vulnerable_to_client_renegotiation_dos,
    ),
}


# These need the end of a handshake; the scanner's old OpenSSL, which has SSL 2.0, cannot carry papers at all.
WITH_PAPERS = {ScanCommand.TLS_1_3_EARLY_DATA, ScanCommand.SESSION_RENEGOTIATION}


def main():
    where = ServerNetworkLocation("localhost", int(sys.argv[2]), ip_address=sys.argv[1])
    papers = ClientAuthenticationCredentials(certificate_chain_path=Path(sys.argv[3]), key_path=Path(sys.argv[4]))
    commands = set(VERSIONS.values()) | {command for command, _ in PROBES.values()}
    scanner = Scanner()
    requests = []
    for chosen, shown in [(commands - WITH_PAPERS, None), (WITH_PAPERS, papers)]:
        network = ServerNetworkConfiguration("sekisho.test", tls_client_auth_credentials=shown)
        requests.append(ServerScanRequest(where, network_configuration=network, scan_commands=chosen))
    scanner.queue_scans(requests)
    out = {"connected": [], "versions": {}, "probes": {}, "errors": {}}
    attempts = {}
    for result in scanner.get_results():
        out["connected"].append(result.connectivity_status.name)
        for command in commands:
            attempt = getattr(result.scan_result, command.value)
            if attempt.status.name != "NOT_SCHEDULED":
                attempts[command] = attempt

    def note(kind, name, command, read):
        attempt = attempts[command]
        if attempt.result is None:
            out["errors"][name] = str(attempt.error_trace or attempt.error_reason)
        else:
            out[kind][name] = read(attempt.result)

    for name, command in VERSIONS.items():
        note("versions", name, command, lambda r: sorted(one.cipher_suite.name for one in r.accepted_cipher_suites))
    for name, (command, read) in PROBES.items():
        note("probes", name, command, read)
    print(json.dumps(out))


main()
