"""Lints certificates by RFC 5280 with pkilint.

Arguments are PEM files, each with one certificate or several. One JSON object a finding goes to stdout, and at the end
one with the number of certificates. A finding without influence ("notice" and below) is left out.
"""

import json
import re
import sys

from pkilint import loader, validation
from pkilint.pkix import certificate, extension, name

PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def main():
    linter = certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )
    certificates = 0
    for path in sys.argv[1:]:
        with open(path, encoding="ascii") as file:
            sections = PEM.findall(file.read())
        for index, pem in enumerate(sections):
            certificates += 1
            for code, severity, message in findings(linter, pem, path):
                finding = {"file": path, "index": index, "code": code, "severity": severity, "message": message}
                print(json.dumps(finding))
    print(json.dumps({"certificates": certificates}))


def findings(linter, pem, path):
    document = loader.RFC5280CertificateDocumentLoader().load_pem_document(pem, path)
    for result in linter.validate(document.root):
        for described in result.finding_descriptions:
            severity = described.finding.severity
            if severity <= validation.ValidationFindingSeverity.WARNING:
                yield described.finding.code, severity.name, described.message


main()
