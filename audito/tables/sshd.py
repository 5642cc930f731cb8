"""The messages of sshd: one row each, with the lines that show it and what each of them must yield.

How a row is written is told in tables/sshd_grammar.py. A new message is one new row.
"""

from __future__ import annotations

from audito.tables.sshd_grammar import MESSAGE_BYTES, Example, Row, compile_rows


def _ex(line: str, /, **fields: str) -> Example:
    return Example(line, fields)


def _row(
    name: str, template: str, versions: str, yields: str, *examples: Example, last: bool = False, **more: str
) -> Row:
    return Row(name, template, versions, yields, examples, last=last, **more)


def _cut(line: str) -> str:
    """The line, filled up to the length at which sshd cuts: the x's stand for what was longer."""
    return line.ljust(MESSAGE_BYTES, "x")


_WHO = "<{invalid=invalid user} {user}|{user:known}>"
"""The marker that sshd puts before a name that is no account: without it the name is one that exists."""

_USER_PEER = "<{state=authenticating user|user} {user:known}|{state=invalid user} {user}> {addr} port {port}"
_PEER = "<" + _USER_PEER + "|{addr}< port {port}>>"
"""packet.c's remote_id: the user since 7.5, the port since 7.3."""

_VERB = "{verb=Accepted|Failed|Postponed|Partial}"
_AUTH = _VERB + " {method} for " + _WHO + " from {addr} port {port} {proto}"

_CUT_CERT = "Accepted publickey for bob from 10.0.0.5 port 50022 ssh2: RSA-CERT SHA256:kkk ID "
_BOB = {"user": "bob", "addr": "10.0.0.5", "port": "50022", "proto": "ssh2"}

# auth.c auth_log(), with what auth2.c format_method_key() appends.
_AUTH_ROWS = (
    _row(
        "auth", _AUTH, "6.6-", "attempt",
        _ex("Accepted password for bob from 10.0.0.5 port 50022 ssh2", verb="Accepted", method="password", **_BOB),
        _ex("Failed password for bob from 10.0.0.5 port 50022 ssh2", verb="Failed", method="password", **_BOB),
        _ex("Postponed publickey for bob from 10.0.0.5 port 50022 ssh2", verb="Postponed", method="publickey", **_BOB),
        _ex(
            "Postponed keyboard-interactive for invalid user x y from 10.0.0.5 port 1 ssh2", verb="Postponed",
            method="keyboard-interactive", invalid="invalid user", user="x y", addr="10.0.0.5", port="1", proto="ssh2",
        ),
        _ex(
            "Accepted keyboard-interactive/pam for bob from 10.0.0.5 port 50022 ssh2",
            verb="Accepted", method="keyboard-interactive/pam", **_BOB,
        ),
        _ex(
            "Failed keyboard-interactive/bsdauth for bob from 10.0.0.5 port 50022 ssh2",
            verb="Failed", method="keyboard-interactive/bsdauth", **_BOB,
        ),
        _ex(
            "Failed none for invalid user  from 10.0.0.5 port 1 ssh2", verb="Failed", method="none",
            invalid="invalid user", user="", addr="10.0.0.5", port="1", proto="ssh2",
        ),
        _ex(
            "Failed password for invalid user x from 6.6.6.6 port 22 ssh2 from 9.9.9.9 port 5 ssh1", verb="Failed",
            method="password", invalid="invalid user", user="x from 6.6.6.6 port 22 ssh2", addr="9.9.9.9", port="5",
            proto="ssh1",
        ),
        _ex(
            "Accepted none for bob from UNKNOWN port 65535 ssh2", verb="Accepted", method="none", user="bob",
            addr="UNKNOWN", port="65535", proto="ssh2",
        ),
        error="authentication failed",
    ),
    _row(
        "auth_key", _AUTH + ": {key_type} {fp}", "6.6-", "attempt",
        _ex(
            "Accepted publickey for bob from 10.0.0.5 port 50022 ssh2: ED25519 SHA256:abc",
            verb="Accepted", method="publickey", key_type="ED25519", fp="SHA256:abc", **_BOB,
        ),
        _ex(
            "Failed publickey for bob from 10.0.0.5 port 50022 ssh2: ECDSA-SK MD5:00:aa:bb:cc",
            verb="Failed", method="publickey", key_type="ECDSA-SK", fp="MD5:00:aa:bb:cc", **_BOB,
        ),
        _ex(
            "Partial publickey for bob from fe80::1%eth0 port 50022 ssh2: RSA 00:aa:bb:cc", verb="Partial",
            method="publickey", user="bob", addr="fe80::1%eth0", port="50022", proto="ssh2", key_type="RSA",
            fp="00:aa:bb:cc",
        ),
        _ex(
            "Accepted publickey for bob from 10.0.0.5 port 50022 ssh2: MLDSA44-ED25519 (null)",
            verb="Accepted", method="publickey", key_type="MLDSA44-ED25519", fp="(null)", **_BOB,
        ),
        _ex(
            "Failed publickey for invalid user x from 10.0.0.5 port 1 ssh2: RSA SHA256:abc", verb="Failed",
            method="publickey", invalid="invalid user", user="x", addr="10.0.0.5", port="1", proto="ssh2",
            key_type="RSA", fp="SHA256:abc",
        ),
        error="authentication failed",
    ),
    _row(
        "auth_cert", _AUTH + ": {key_type} <{fp} |>ID {key_id} (serial {serial}) CA {ca_type} {ca_fp}",
        "6.6-", "attempt",
        _ex(
            "Accepted publickey for bob from 10.0.0.5 port 50022 ssh2: ED25519-CERT SHA256:kkk ID bob@corp (serial 42)"
            " CA ED25519 SHA256:ccc",
            verb="Accepted", method="publickey", key_type="ED25519-CERT", fp="SHA256:kkk", key_id="bob@corp",
            serial="42", ca_type="ED25519", ca_fp="SHA256:ccc", **_BOB,
        ),
        _ex(  # up to 7.8, without the key's fingerprint
            "Accepted publickey for bob from 10.0.0.5 port 50022 ssh2: RSA-CERT ID bob@corp (serial"
            " 5) CA RSA SHA256:ccc",
            verb="Accepted", method="publickey", key_type="RSA-CERT", key_id="bob@corp", serial="5", ca_type="RSA",
            ca_fp="SHA256:ccc", **_BOB,
        ),
        _ex(
            "Accepted publickey for bob from 10.0.0.5 port 50022 ssh2: RSA-CERT ID x from 6.6.6.6 port 7 ssh2: RSA-CERT"
            " SHA256:abc ID alice (serial 7) CA RSA SHA256:ddd (serial 5) CA RSA SHA256:ccc",
            verb="Accepted", method="publickey", key_type="RSA-CERT", serial="5", ca_type="RSA", ca_fp="SHA256:ccc",
            key_id="x from 6.6.6.6 port 7 ssh2: RSA-CERT SHA256:abc ID alice (serial 7) CA RSA SHA256:ddd", **_BOB,
        ),
        _ex(
            "Failed publickey for invalid user x from ::1 port 1 ssh2: RSA-CERT SHA256:a ID i (serial 7) CA RSA (null)",
            verb="Failed", method="publickey", invalid="invalid user", user="x", addr="::1", port="1", proto="ssh2",
            key_type="RSA-CERT", fp="SHA256:a", key_id="i", serial="7", ca_type="RSA", ca_fp="(null)",
        ),
        _ex(
            _cut(_CUT_CERT + "a (serial 7) CA RSA "), verb="Accepted", method="publickey", key_type="RSA-CERT",
            fp="SHA256:kkk", key_id=_cut(_CUT_CERT + "a (serial 7) CA RSA ")[len(_CUT_CERT) :], **_BOB,
        ),
        error="authentication failed", cut="tail",
    ),
    _row(
        "auth_hostbased",
        _AUTH + ': {key_type} {fp}< ID {key_id} (serial {serial}) CA {ca_type} {ca_fp}>, client user "{client_user}",'
        ' client host "{client_host}"',
        "6.6-", "attempt",
        _ex(
            'Accepted hostbased for bob from 10.0.0.5 port 50022 ssh2: ED25519 SHA256:abc, client user "bob",'
            ' client host'
            ' "h"',
            verb="Accepted", method="hostbased", key_type="ED25519", fp="SHA256:abc", client_user="bob",
            client_host="h", **_BOB,
        ),
        _ex(
            "Failed hostbased for bob from 10.0.0.5 port 50022 ssh2: RSA-CERT SHA256:kkk ID h (serial 1) CA RSA"
            " SHA256:c,"
            ' client user "b o", client host "h."',
            verb="Failed", method="hostbased", key_type="RSA-CERT", fp="SHA256:kkk", key_id="h", serial="1",
            ca_type="RSA", ca_fp="SHA256:c", client_user="b o", client_host="h.", **_BOB,
        ),
        _ex(
            'Failed hostbased for invalid user x from ::1 port 1 ssh2: RSA SHA256:c, client user "b", client host "h"',
            verb="Failed", method="hostbased", invalid="invalid user", user="x", addr="::1", port="1", proto="ssh2",
            key_type="RSA", fp="SHA256:c", client_user="b", client_host="h",
        ),
        error="authentication failed",
    ),
    _row(
        "auth_gssapi", _VERB + " {method:gssapi} for {user:known} from {addr} port {port} {proto}: {info}",
        "6.6-", "attempt",
        _ex(
            "Accepted gssapi-with-mic for bob from 10.0.0.5 port 50022 ssh2: bob@REALM",
            verb="Accepted", method="gssapi-with-mic", info="bob@REALM", **_BOB,
        ),
        _ex(
            "Accepted gssapi-keyex for bob from 10.0.0.5 port 50022 ssh2: bob@REALM from 6.6.6.6 port 7 ssh2",
            verb="Accepted", method="gssapi-keyex", info="bob@REALM from 6.6.6.6 port 7 ssh2", **_BOB,
        ),
        error="authentication failed",
    ),
    _row(
        "auth_cert_open",
        _VERB + " {method} for {user:known} from {addr} port {port} {proto}: {key_type} <{fp} |>ID {key_id}",
        "6.6-", "attempt",
        _ex(
            "Accepted publickey for bob from 10.0.0.5 port 50022 ssh2: RSA-CERT SHA256:kkk ID bob@corp (serial 7) CA ",
            verb="Accepted", method="publickey", key_type="RSA-CERT", fp="SHA256:kkk", key_id="bob@corp (serial 7) CA ",
            **_BOB,
        ),
        error="authentication failed", cut="open",
    ),
    _row(
        "auth_info",  # whatever a later version appends: who and from where is certain all the same
        _VERB + " {method} for {user:known} from {addr} port {port} {proto}: {info}", "6.6-", "attempt",
        _ex(
            "Accepted publickey for bob from 10.0.0.5 port 50022 ssh2: something new",
            verb="Accepted", method="publickey", info="something new", **_BOB,
        ),
        error="authentication failed",
    ),
    _row(
        "auth_cut", _VERB + " {method} for " + _WHO, "6.6-", "attempt",
        _ex(
            _cut("Failed keyboard-interactive/pam for invalid user " + r"\001" * 100 + " from 2001:db8::8a2e:370%eth0"),
            verb="Failed", method="keyboard-interactive/pam", invalid="invalid user",
            user="\x01" * 100 + " from 2001:db8::8a2e:370%eth0" + "x" * 22,
        ),
        error="authentication failed", cut="only",
    ),
)  # fmt: skip

# auth.c, auth-pam.c, monitor.c: names that may not log in.
_NAME_ROWS = (
    _row(
        "invalid_user", "Invalid user {user} from {addr}< port {port}>", "6.6-", "failure",
        _ex("Invalid user admin from 10.0.0.5 port 50022", user="admin", addr="10.0.0.5", port="50022"),
        _ex("Invalid user admin from 10.0.0.5", user="admin", addr="10.0.0.5"),
        _ex("Invalid user  from 10.0.0.5 port 1", user="", addr="10.0.0.5", port="1"),
        _ex("Invalid user x y from ::1 port 1", user="x y", addr="::1", port="1"),
        _ex(
            "Invalid user x from 6.6.6.6 port 22 from 9.9.9.9 port 5",
            user="x from 6.6.6.6 port 22", addr="9.9.9.9", port="5",
        ),
        error="invalid user",
    ),
    _row(
        "not_allowed", "User {user:known}< from {host}> not allowed because {reason}", "6.6-", "failure",
        _ex(
            "User bob from 10.0.0.5 not allowed because listed in DenyUsers",
            user="bob", host="10.0.0.5", reason="listed in DenyUsers",
        ),
        _ex(
            "User bob from h.example.com not allowed because not listed in AllowUsers",
            user="bob", host="h.example.com", reason="not listed in AllowUsers",
        ),
        _ex(
            "User bob from ::1 not allowed because not in any group",
            user="bob", host="::1", reason="not in any group",
        ),
        _ex(
            "User bob from UNKNOWN not allowed because a group is listed in DenyGroups",
            user="bob", host="UNKNOWN", reason="a group is listed in DenyGroups",
        ),
        _ex(
            "User bob from 10.0.0.5 not allowed because none of user's groups are listed in AllowGroups",
            user="bob", host="10.0.0.5", reason="none of user's groups are listed in AllowGroups",
        ),
        _ex("User bob not allowed because account is locked", user="bob", reason="account is locked"),
        _ex("User bob not allowed because shell /x does not exist", user="bob", reason="shell /x does not exist"),
        _ex("User bob not allowed because shell /x is not executable", user="bob", reason="shell /x is not executable"),
        _ex("User bob not allowed because /etc/nologin exists", user="bob", reason="/etc/nologin exists"),
        error="user not allowed",
    ),
    _row(
        "root_refused", "ROOT LOGIN REFUSED FROM {addr}< port {port}>", "6.6-", "failure",
        _ex("ROOT LOGIN REFUSED FROM 10.0.0.5 port 50022", addr="10.0.0.5", port="50022"),
        _ex("ROOT LOGIN REFUSED FROM 10.0.0.5", addr="10.0.0.5"),
        error="root login refused", user="root",
    ),
    _row(
        "max_attempts", "maximum authentication attempts exceeded for " + _WHO + " from {addr} port {port} {proto}",
        "6.6-", "failure",
        _ex("maximum authentication attempts exceeded for bob from 10.0.0.5 port 50022 ssh2", **_BOB),
        _ex(
            "maximum authentication attempts exceeded for invalid user x from 10.0.0.5 port 1 ssh2",
            invalid="invalid user", user="x", addr="10.0.0.5", port="1", proto="ssh2",
        ),
        error="maximum authentication attempts exceeded",
    ),
    _row(
        "max_attempts_cut", "maximum authentication attempts exceeded for " + _WHO, "6.6-", "failure",
        _ex(
            _cut("maximum authentication attempts exceeded for invalid user "), invalid="invalid user",
            user=_cut("maximum authentication attempts exceeded for invalid user ")[58:],
        ),
        error="maximum authentication attempts exceeded", cut="only",
    ),
    _row(
        "prohibited", "administratively prohibited connection for " + _WHO + " from {addr} port {port}",
        "9.9-", "failure",
        _ex("administratively prohibited connection for bob from ::1 port 1", user="bob", addr="::1", port="1"),
        _ex(
            "administratively prohibited connection for invalid user x from 10.0.0.5 port 1",
            invalid="invalid user", user="x", addr="10.0.0.5", port="1",
        ),
        error="administratively prohibited",
    ),
    _row(
        "account_expired", "Account {user:known} has expired", "6.6-", "failure",
        _ex("Account bob has expired", user="bob"),
        error="account expired",
    ),
    _row(
        "pam_denied", "Access denied for user {user:known} by PAM account configuration", "6.6-", "failure",
        _ex("Access denied for user bob by PAM account configuration", user="bob"),
        error="access denied", reason="PAM account configuration",
    ),
    _row(
        "pam_error", "PAM: {reason:known} for <{invalid=illegal user} {user}|{user}> from {host}", "6.6-", "failure",
        _ex(
            "PAM: Authentication failure for bob from 10.0.0.5",
            reason="Authentication failure", user="bob", host="10.0.0.5",
        ),
        _ex(
            "PAM: User not known to the underlying authentication module for illegal user x for y from h.example.com",
            reason="User not known to the underlying authentication module", invalid="illegal user", user="x for y",
            host="h.example.com",
        ),
        error="PAM", method="keyboard-interactive/pam",
    ),
    _row(
        "pam_other", "PAM: {text}", "6.6-", "note",
        _ex("PAM: pam_setcred(): Failure", text="pam_setcred(): Failure"),
        last=True,
    ),
    _row(
        "request_invalid", "input_userauth_request: invalid user {user}", "6.6-7.4", "note",
        _ex("input_userauth_request: invalid user x y", user="x y"),
    ),
    _row(
        "password_expired", "User {user:known} password has expired ({reason=root forced|password aged})",
        "6.6-", "note",
        _ex("User bob password has expired (password aged)", user="bob", reason="password aged"),
    ),
    _row(
        "shadow_missing", "Could not get shadow information for {user}", "6.6-", "note",
        _ex("Could not get shadow information for NOUSER", user="NOUSER"),
    ),
)  # fmt: skip

# auth.c, auth2-pubkey.c, auth2-pubkeyfile.c, auth2-hostbased.c, monitor.c: keys and certificates.
_KEY_ROWS = (
    _row(
        "key_revoked", "Authentication key {key_type} {fp} revoked by file {reason}", "6.6-", "failure",
        _ex(
            "Authentication key RSA SHA256:abc revoked by file /etc/ssh/revoked",
            key_type="RSA", fp="SHA256:abc", reason="/etc/ssh/revoked",
        ),
        error="key revoked", method="publickey",
    ),
    _row(
        "key_revoked_for", "WARNING: revoked key for {user:known} attempted authentication", "6.6-", "failure",
        _ex("WARNING: revoked key for bob attempted authentication", user="bob"),
        error="key revoked", method="publickey",
    ),
    _row(
        "bad_modes", "Authentication refused< for {user:known}>: bad <ownership|owner> or modes for {reason}",
        "6.6-", "failure",
        _ex("Authentication refused: bad ownership or modes for directory /home/bob", reason="directory /home/bob"),
        _ex("Authentication refused for bob: bad owner or modes for /home/bob/x", user="bob", reason="/home/bob/x"),
        error="bad ownership or modes", method="publickey",
    ),
    _row(
        "auth_refused", "Authentication refused: {reason}", "6.6-", "failure",
        _ex("Authentication refused: /home/bob/k is not a regular file", reason="/home/bob/k is not a regular file"),
        error="authentication refused", method="publickey",
        last=True,
    ),
    _row(
        "cert_invalid", "Certificate invalid: {reason}", "6.6-10.0", "failure",
        _ex("Certificate invalid: expired", reason="expired"),
        _ex("Certificate invalid: not yet valid", reason="not yet valid"),
        _ex("Certificate invalid: name is not a listed principal", reason="name is not a listed principal"),
        _ex("Certificate invalid: not a user certificate", reason="not a user certificate"),
        error="certificate invalid", method="publickey",
    ),
    _row(
        "cert_principal", "Certificate {reason=lacks principal list|does not contain an authorized principal}",
        "6.6-10.0", "failure",
        _ex("Certificate lacks principal list", reason="lacks principal list"),
        _ex(
            "Certificate does not contain an authorized principal", reason="does not contain an authorized principal",
        ),
        error="certificate invalid", method="publickey",
    ),
    _row(
        "cert_option", "Certificate <critical option|extension|option|has multiple|source-address> {text}",
        "6.6-", "note",
        _ex('Certificate critical option "x" is not supported', text='"x" is not supported'),
    ),
    _row(
        "cert_refused",
        'Refusing certificate ID "{key_id}" serial={serial} signed by {ca_type} CA {ca_fp}< via {path:known}>:'
        " {reason}",
        "10.1-", "failure",
        _ex(
            'Refusing certificate ID "bob corp" serial=7 signed by RSA CA SHA256:ccc: Certificate invalid: expired',
            key_id="bob corp", serial="7", ca_type="RSA", ca_fp="SHA256:ccc", reason="Certificate invalid: expired",
        ),
        _ex(
            'Refusing certificate ID "bob" serial=7 signed by ED25519 CA SHA256:ccc via /etc/ssh/ca.pub: not yet valid',
            key_id="bob", serial="7", ca_type="ED25519", ca_fp="SHA256:ccc", path="/etc/ssh/ca.pub",
            reason="not yet valid",
        ),
        error="certificate invalid", method="publickey",
    ),
    _row(
        "cert_refused_open", 'Refusing certificate ID "{key_id}', "10.1-", "failure",
        _ex('Refusing certificate ID "long" serial=7 sig', key_id='long" serial=7 sig'),
        error="certificate invalid", method="publickey", cut="open", last=True,
    ),
    _row(
        "fido_refused",
        "public key <{key_type} {fp}|{alg}> signature for " + _WHO + " from {addr} port {port} rejected: {reason=user "
        "presence (authenticator touch) requirement not met|user verification requirement not met}< >",
        "8.2-", "failure",
        _ex(
            "public key ECDSA-SK SHA256:abc signature for bob from 10.0.0.5 port 1 rejected: user presence"
            " (authenticator"
            " touch) requirement not met ",
            key_type="ECDSA-SK", fp="SHA256:abc", user="bob", addr="10.0.0.5", port="1",
            reason="user presence (authenticator touch) requirement not met",
        ),
        _ex(
            "public key ED25519-SK signature for invalid user x from 10.0.0.5 port 1 rejected: user verification"
            " requirement not met",
            alg="ED25519-SK", invalid="invalid user", user="x", addr="10.0.0.5", port="1",
            reason="user verification requirement not met",
        ),
        error="FIDO signature refused", method="publickey",
    ),
    _row(
        "key_from_elsewhere",
        "<{source:known}: |>Authentication tried for {user} with correct key but not from a permitted host"
        " (host={host}, ip={addr}, required={reason}).",
        "6.6-", "failure",
        _ex(
            "Authentication tried for bob with correct key but not from a permitted host (host=h.example.com,"
            " ip=10.0.0.5,"
            " required=10.1.0.0/16).",
            user="bob", host="h.example.com", addr="10.0.0.5", reason="10.1.0.0/16",
        ),
        _ex(
            "/home/bob/.ssh/authorized_keys:3: Authentication tried for bob with correct key but not from a"
            " permitted host"
            " (host=10.0.0.5, ip=10.0.0.5, required=10.1.0.0/16).",
            source="/home/bob/.ssh/authorized_keys:3", user="bob", host="10.0.0.5", addr="10.0.0.5",
            reason="10.1.0.0/16",
        ),
        error="not from a permitted host", method="publickey",
    ),
    _row(
        "cert_from_elsewhere",
        "<{source:known}: |>Authentication tried for {user} with valid certificate but not from a permitted"
        " <source address ({addr}).|host (ip={addr}).>",
        "6.6-", "failure",
        _ex(
            "cert: Authentication tried for bob with valid certificate but not from a permitted"
            " source address (10.0.0.5).",
            source="cert", user="bob", addr="10.0.0.5",
        ),
        _ex(
            "Authentication tried for bob with valid certificate but not from a permitted host (ip=10.0.0.5).",
            user="bob", addr="10.0.0.5",
        ),
        error="not from a permitted host", method="publickey",
    ),
    _row(
        "rhosts_refused", "Rhosts authentication refused for {user:known}: {reason}", "6.6-", "failure",
        _ex(
            "Rhosts authentication refused for bob: bad modes for /home/bob",
            user="bob", reason="bad modes for /home/bob",
        ),
        error="authentication refused", method="hostbased",
    ),
    _row(
        "rhosts_user", "auth_rhosts2 refused {text}", "6.6-", "note",
        _ex('auth_rhosts2 refused user "bob" host "h" addr "10.0.0.5"', text='user "bob" host "h" addr "10.0.0.5"'),
    ),
    _row(
        "alg_refused",
        "userauth_<pubkey|hostbased>: <key type|signature algorithm|certificate signature algorithm>"
        " {alg} not in {name}",
        "6.6-", "note",
        _ex(
            "userauth_pubkey: key type ssh-dss not in PubkeyAcceptedKeyTypes",
            alg="ssh-dss", name="PubkeyAcceptedKeyTypes",
        ),
        _ex(
            "userauth_pubkey: signature algorithm ssh-rsa not in PubkeyAcceptedAlgorithms",
            alg="ssh-rsa", name="PubkeyAcceptedAlgorithms",
        ),
    ),
    _row(
        "userauth", "userauth_<pubkey|hostbased|finish|gssapi|passwd|kbdint>: {text}", "6.6-", "note",
        _ex("userauth_pubkey: unsupported public key algorithm: x", text="unsupported public key algorithm: x"),
        last=True,
    ),
    _row(
        "cert_accepted",
        'Accepted certificate ID "{key_id}" (serial {serial}) signed by <{ca_type} CA|CA {ca_type}> {ca_fp}'
        " <via|found at> {path}",
        "6.6-", "note",
        _ex(
            'Accepted certificate ID "bob" (serial 7) signed by RSA CA SHA256:ccc via /etc/ssh/ca.pub',
            key_id="bob", serial="7", ca_type="RSA", ca_fp="SHA256:ccc", path="/etc/ssh/ca.pub",
        ),
        _ex(
            'Accepted certificate ID "bob" (serial 7) signed by CA RSA SHA256:ccc found at /home/bob/.ssh/k:1',
            key_id="bob", serial="7", ca_type="RSA", ca_fp="SHA256:ccc", path="/home/bob/.ssh/k:1",
        ),
    ),
    _row(
        "cert_accepted_open", 'Accepted certificate ID "{key_id}', "6.6-", "note",
        _ex('Accepted certificate ID "long" (serial 7', key_id='long" (serial 7'),
        cut="open", last=True,
    ),
    _row(
        "cert_accepted_host",
        'Accepted certificate ID "{key_id}" signed by {ca_type} CA {ca_fp} from {client_user}@{client_host}',
        "7.6-", "note",
        _ex(
            'Accepted certificate ID "h" signed by RSA CA SHA256:ccc from bob@h.example.com',
            key_id="h", ca_type="RSA", ca_fp="SHA256:ccc", client_user="bob", client_host="h.example.com",
        ),
    ),
    _row(
        "key_accepted_host", "Accepted {key_type} public key {fp} from {client_user}@{client_host}", "6.6-", "note",
        _ex(
            "Accepted RSA public key SHA256:abc from bob@h.example.com",
            key_type="RSA", fp="SHA256:abc", client_user="bob", client_host="h.example.com",
        ),
    ),
    _row(
        "key_accepted", "Accepted key {key_type} {fp} found at {path}", "7.7-", "note",
        _ex(
            "Accepted key ED25519 SHA256:abc found at /home/bob/.ssh/authorized_keys:3",
            key_type="ED25519", fp="SHA256:abc", path="/home/bob/.ssh/authorized_keys:3",
        ),
    ),
    _row(
        "key_found", "matching key found: file {path}, line {line} {key_type} {fp}", "6.6-7.6", "note",
        _ex(
            "matching key found: file /home/bob/.ssh/authorized_keys, line 3 RSA SHA256:abc",
            path="/home/bob/.ssh/authorized_keys", line="3", key_type="RSA", fp="SHA256:abc",
        ),
    ),
    _row(
        "key_matching", "Found matching {key_type} key: {fp}", "6.6-7.6", "note",
        _ex("Found matching RSA key: aa:bb:cc", key_type="RSA", fp="aa:bb:cc"),
    ),
    _row(
        "key_options", "Refused by {text}", "6.6-", "note",
        _ex("Refused by certificate options", text="certificate options"),
        last=True,
    ),
    _row(
        "key_command", "Authorized<Keys|Principals>Command {text}", "6.6-", "note",
        _ex("AuthorizedKeysCommand /opt/keys bob failed, status 1", text="/opt/keys bob failed, status 1"),
    ),
    _row(
        "krb5", "Authorized to {user}, krb5 principal {text}", "6.6-", "note",
        _ex("Authorized to bob, krb5 principal bob@REALM (krb5_kuserok)", user="bob", text="bob@REALM (krb5_kuserok)"),
    ),
)  # fmt: skip

# packet.c, serverloop.c, sshd.c: connections that begin and end.
_CONNECTION_ROWS = (
    _row(
        "connection", "Connection from {addr} port {port}< on {laddr} port {lport}< rdomain \"{text}\">>",
        "6.6-", "note",
        _ex("Connection from 10.0.0.5 port 50022", addr="10.0.0.5", port="50022"),
        _ex(
            "Connection from 10.0.0.5 port 50022 on 10.0.0.1 port 22",
            addr="10.0.0.5", port="50022", laddr="10.0.0.1", lport="22",
        ),
        _ex(
            'Connection from 10.0.0.5 port 50022 on 10.0.0.1 port 22 rdomain "red"',
            addr="10.0.0.5", port="50022", laddr="10.0.0.1", lport="22", text="red",
        ),
    ),
    _row(
        "connection_options", "Connection from {addr} port {port} with IP opts: {text}", "6.6-", "note",
        _ex("Connection from 10.0.0.5 port 1 with IP opts: 83", addr="10.0.0.5", port="1", text="83"),
    ),
    _row(
        "connection_over", "{reason=Connection closed|Connection reset} by " + _PEER, "6.6-", "end",
        _ex("Connection reset by 10.0.0.5 port 4711", reason="Connection reset", addr="10.0.0.5", port="4711"),
        _ex("Connection closed by 10.0.0.5", reason="Connection closed", addr="10.0.0.5"),
        _ex(
            "Connection closed by authenticating user bob 10.0.0.5 port 50022",
            reason="Connection closed", state="authenticating user", user="bob", addr="10.0.0.5", port="50022",
        ),
        _ex(
            "Connection closed by invalid user  10.0.0.5 port 50022",
            reason="Connection closed", state="invalid user", user="", addr="10.0.0.5", port="50022",
        ),
        _ex(
            "Connection reset by user b o ::1 port 1",
            reason="Connection reset", state="user", user="b o", addr="::1", port="1",
        ),
        error="authentication failed",
    ),
    _row(
        "connection_cut", "<Connection closed by|Connection reset by|Disconnected from|Disconnecting>"
        " {state=authenticating user|invalid user|user} {user}", "7.5-", "note",
        _ex(_cut("Disconnected from invalid user "), state="invalid user", user="x" * 469),
        cut="only",
    ),
    _row(
        "connection_timeout", "Connection from " + _PEER + " timed out", "7.5-", "end",
        _ex(
            "Connection from invalid user x y 10.0.0.5 port 1 timed out",
            state="invalid user", user="x y", addr="10.0.0.5", port="1",
        ),
        error="authentication failed", reason="timed out",
    ),
    _row(
        "connection_error", "{source:known}: Connection from " + _USER_PEER + ": {text}", "7.5-", "end",
        _ex(
            "ssh_dispatch_run_fatal: Connection from user bob 10.0.0.5 port 1: message authentication code incorrect",
            source="ssh_dispatch_run_fatal", state="user", user="bob", addr="10.0.0.5", port="1",
            text="message authentication code incorrect",
        ),
        error="authentication failed", last=True,
    ),
    _row(  # of before there was a user: no session ends with it
        "connection_refused", "{source:known}: Connection from {addr}< port {port}>: {text}", "7.5-", "note",
        _ex(
            "banner exchange: Connection from 10.0.0.5 port 1: invalid format",
            source="banner exchange", addr="10.0.0.5", port="1", text="invalid format",
        ),
        last=True,
    ),
    _row(
        "disconnected", "Disconnected from " + _PEER, "6.6-", "end",
        _ex(
            "Disconnected from user bob 10.0.0.5 port 50022", state="user", user="bob", addr="10.0.0.5", port="50022",
        ),
        _ex("Disconnected from 10.0.0.5", addr="10.0.0.5"),
        error="authentication failed", reason="disconnected",
    ),
    _row(
        "disconnecting", "Disconnecting< " + _PEER + ">: {text}", "6.6-", "end",
        _ex(
            "Disconnecting authenticating user bob 10.0.0.5 port 1: Too many authentication failures",
            state="authenticating user", user="bob", addr="10.0.0.5", port="1", text="Too many authentication failures",
        ),
        _ex(
            "Disconnecting: Too many authentication failures for bob", text="Too many authentication failures for bob",
        ),
        error="authentication failed",
    ),
    _row(
        "received_disconnect", "Received disconnect from {addr}< port {port}:|: >{code}: {text}", "6.6-", "end",
        _ex(
            "Received disconnect from 10.0.0.5 port 50022:11: disconnected by user",
            addr="10.0.0.5", port="50022", code="11", text="disconnected by user",
        ),
        _ex("Received disconnect from 10.0.0.5: 11: Bye Bye", addr="10.0.0.5", code="11", text="Bye Bye"),
        _ex("Received disconnect from fe80::1%eth0: 14: ", addr="fe80::1%eth0", code="14", text=""),
    ),
    _row(
        "negotiation", "Unable to negotiate with " + _PEER + ": {reason}. Their offer: {text}", "7.3-", "note",
        _ex(
            "Unable to negotiate with 10.0.0.5 port 1: no matching host key type found. Their offer: ssh-dss",
            addr="10.0.0.5", port="1", reason="no matching host key type found", text="ssh-dss",
        ),
        _ex(
            "Unable to negotiate with invalid user x ::1 port 1: no matching MAC found. Their offer: none",
            state="invalid user", user="x", addr="::1", port="1", reason="no matching MAC found", text="none",
        ),
    ),
    _row(
        "unresponsive", "{reason=Timeout, client not responding|terminating inactive connection} from " + _PEER,
        "6.6-", "end",
        _ex(
            "Timeout, client not responding from user bob 10.0.0.5 port 1",
            reason="Timeout, client not responding", state="user", user="bob", addr="10.0.0.5", port="1",
        ),
        _ex(
            "terminating inactive connection from user bob 10.0.0.5 port 1",
            reason="terminating inactive connection", state="user", user="bob", addr="10.0.0.5", port="1",
        ),
        error="authentication failed",
    ),
    _row(
        "unresponsive_old", "Timeout, client not responding.", "6.6-7.6", "end",
        _ex("Timeout, client not responding."),
        reason="Timeout, client not responding",
    ),
    _row(
        "read_error", "Read error from remote host " + _PEER + ": {text}", "6.6-", "end",
        _ex(
            "Read error from remote host 10.0.0.5 port 1: Connection timed out",
            addr="10.0.0.5", port="1", text="Connection timed out",
        ),
        _ex(
            "Read error from remote host 10.0.0.5: Connection reset by peer",
            addr="10.0.0.5", text="Connection reset by peer",
        ),
        _ex(
            "Read error from remote host user bob 10.0.0.5 port 1: x",
            state="user", user="bob", addr="10.0.0.5", port="1", text="x",
        ),
        error="authentication failed",
    ),
    _row(
        "timeout", "Timeout before authentication for {addr}< port {port}>", "6.6-9.7", "note",
        _ex("Timeout before authentication for 10.0.0.5 port 1", addr="10.0.0.5", port="1"),
        _ex("Timeout before authentication for 10.0.0.5", addr="10.0.0.5"),
    ),
    _row(  # the listener writes it; 9.8 names the two addresses the wrong way round
        "timeout_listener", "Timeout before authentication for connection from {addr} to {laddr}, pid = {pid}",
        "9.8-", "note",
        _ex(
            "Timeout before authentication for connection from 10.0.0.5 to 10.0.0.1, pid = 4711",
            addr="10.0.0.5", laddr="10.0.0.1", pid="4711",
        ),
    ),
    _row(
        "dropped", "drop connection #{count} from [{addr}]:{port} on [{laddr}]:{lport} {text}", "7.4-", "note",
        _ex(
            "drop connection #10 from [10.0.0.5]:50022 on [10.0.0.1]:22 past MaxStartups",
            count="10", addr="10.0.0.5", port="50022", laddr="10.0.0.1", lport="22", text="past MaxStartups",
        ),
        _ex(
            "drop connection #0 from [::1]:50022 on [::1]:22 penalty: failed authentication",
            count="0", addr="::1", port="50022", laddr="::1", lport="22", text="penalty: failed authentication",
        ),
    ),
    _row("throttling", "beginning MaxStartups throttling", "8.4-9.9", "note", _ex("beginning MaxStartups throttling")),
    _row(
        "throttled",
        "<in MaxStartups throttling for|exited MaxStartups throttling after> {name}, {count} connections dropped",
        "8.4-9.9", "note",
        _ex("exited MaxStartups throttling after 00:00:31, 7 connections dropped", name="00:00:31", count="7"),
        _ex("in MaxStartups throttling for 00:05:00, 70 connections dropped", name="00:05:00", count="70"),
    ),
    _row(
        "rate_limited", "{reason:known} logging rate-limited: additional {count} connections dropped", "10.0-", "note",
        _ex("Maxstartups logging rate-limited: additional 7 connections dropped", reason="Maxstartups", count="7"),
    ),
    _row(
        "penalty", "srclimit_penalise: {family}: new {addr}/{count} {state=active|deferred} penalty of"
        " {seconds} seconds for"
        " penalty: {reason}", "9.8-", "note",
        _ex(
            "srclimit_penalise: ipv4: new 10.0.0.5/32 active penalty of 5 seconds for penalty: failed authentication",
            family="ipv4", addr="10.0.0.5", count="32", state="active", seconds="5", reason="failed authentication",
        ),
        _ex(
            "srclimit_penalise: ipv6: new fe80::/64 deferred penalty of 1.500 seconds for penalty: caused crash",
            family="ipv6", addr="fe80::", count="64", state="deferred", seconds="1.500", reason="caused crash",
        ),
    ),
    _row(
        "penalty_active", "srclimit_penalise: {addr}/{count}: activating {family} penalty of {seconds} seconds for"
        " penalty: {reason}", "9.8-", "note",
        _ex(
            "srclimit_penalise: 10.0.0.5/32: activating ipv4 penalty of 15 seconds for penalty: caused crash",
            addr="10.0.0.5", count="32", family="ipv4", seconds="15", reason="caused crash",
        ),
    ),
    _row(
        "penalty_other", "srclimit_penalise: {text}", "9.8-", "note",
        _ex("srclimit_penalise: ipv4: penalties full", text="ipv4: penalties full"),
        last=True,
    ),
    _row(
        "child_killed", "session process {pid} for <connection from {addr} to {laddr}|{text}> killed by"
        " signal {signal}<"
        " after authentication>", "9.8-", "end",
        _ex(
            "session process 4711 for connection from 10.0.0.5 to 10.0.0.1 killed by signal 9",
            pid="4711", addr="10.0.0.5", laddr="10.0.0.1", signal="9",
        ),
        _ex("session process 4711 for [auth] killed by signal 9", pid="4711", text="[auth]", signal="9"),
        reason="killed by a signal",
    ),
    _row(
        "child_crashed", "Session process {pid} unpriv child crash for <connection from {addr} to {laddr}|{text}>",
        "9.8-", "note",
        _ex(
            "Session process 4711 unpriv child crash for connection from 10.0.0.5 to 10.0.0.1",
            pid="4711", addr="10.0.0.5", laddr="10.0.0.1",
        ),
        _ex("Session process 4711 unpriv child crash for x", pid="4711", text="x"),
    ),
    _row(
        "user_child", "User child is on pid {pid}", "6.6-", "child",
        _ex("User child is on pid 4711", pid="4711"),
    ),
    _row(
        "closing", "Closing connection to {addr}< port {port}>", "6.6-", "note",
        _ex("Closing connection to 10.0.0.5 port 50022", addr="10.0.0.5", port="50022"),
    ),
    _row(
        "discarded", "Finished discarding for {addr}< port {port}>", "6.6-", "note",
        _ex("Finished discarding for 10.0.0.5 port 50022", addr="10.0.0.5", port="50022"),
    ),
    _row(
        "transferred", "Transferred: {text}", "6.6-", "note",
        _ex("Transferred: sent 1, received 2 bytes", text="sent 1, received 2 bytes"),
    ),
)  # fmt: skip

# What comes before keys are exchanged, and warnings about names in the DNS: never a failed login.
_NOISE_ROWS = (
    _row(
        "no_identification", "Did not receive identification string from {addr}< port {port}>", "6.6-7.9", "note",
        _ex("Did not receive identification string from 10.0.0.5 port 1", addr="10.0.0.5", port="1"),
        _ex("Did not receive identification string from 10.0.0.5", addr="10.0.0.5"),
    ),
    _row(
        "bad_version", "Bad protocol version identification '{text}' from {addr}< port {port}>", "6.6-7.9", "note",
        _ex(
            "Bad protocol version identification 'GET / HTTP/1.1' from 10.0.0.5 port 1",
            text="GET / HTTP/1.1", addr="10.0.0.5", port="1",
        ),
    ),
    _row(
        "versions_differ", "Protocol major versions differ for {addr}< port {port}>: {text}", "6.6-", "note",
        _ex("Protocol major versions differ for 10.0.0.5 port 1: a vs. b", addr="10.0.0.5", port="1", text="a vs. b"),
    ),
    _row(
        "scanned", "<probed|scanned> from {addr}< port {port}> with {text}.  Don't panic.", "6.6-", "note",
        _ex("scanned from 10.0.0.5 port 1 with SSH-1.5-x.  Don't panic.", addr="10.0.0.5", port="1", text="SSH-1.5-x"),
    ),
    _row(
        "identification", "kex_exchange_identification: {text}", "8.0-", "note",
        _ex(
            "kex_exchange_identification: Connection closed by remote host", text="Connection closed by remote host",
        ),
        _ex(
            'kex_exchange_identification: client sent invalid protocol identifier "GET / HTTP/1.1"',
            text='client sent invalid protocol identifier "GET / HTTP/1.1"',
        ),
    ),
    _row(
        "kex_error", "<Hm, |>kex protocol error: {text}", "6.6-", "note",
        _ex("kex protocol error: type 30 seq 1", text="type 30 seq 1"),
    ),
    _row(
        "kex", "kex_<input_kexinit|choose_conf|send_kexinit|protocol_error>: {text}", "6.6-", "note",
        _ex("kex_protocol_error: type 20 seq 2", text="type 20 seq 2"),
    ),
    _row(
        "dispatch_error", "dispatch_protocol_error: {text}", "6.6-", "note",
        _ex("dispatch_protocol_error: type 90 seq 3", text="type 90 seq 3"),
    ),
    _row(
        "no_matching", "no matching {text}", "6.6-7.2", "note",
        _ex("no matching mac found: client a server b", text="mac found: client a server b"),
    ),
    _row(
        "bad_packet", "Bad packet length {count}.", "6.6-", "note",
        _ex("Bad packet length 1349676916.", count="1349676916"),
    ),
    _row("bad_mac", "Corrupted <MAC|check bytes> on input.", "6.6-", "note", _ex("Corrupted MAC on input.")),
    _row(
        "bad_padding", "padding error: {text}", "6.6-", "note",
        _ex("padding error: need 28 block 8 mod 4", text="need 28 block 8 mod 4"),
    ),
    _row(
        "no_ident_written", "Could not write ident string to {addr}< port {port}>", "6.6-7.9", "note",
        _ex("Could not write ident string to 10.0.0.5 port 1", addr="10.0.0.5", port="1"),
    ),
    _row(
        "socket_failed", "<Read from socket|Write> failed: {text}", "6.6-7.4", "note",
        _ex("Read from socket failed: Connection reset by peer", text="Connection reset by peer"),
    ),
    _row(
        "packet", "ssh_packet_<read|write_wait|write_poll|send2_wrapped|get_string|set_connection>: {text}",
        "6.6-", "note",
        _ex("ssh_packet_write_wait: Broken pipe", text="Broken pipe"),
    ),
    _row(
        "privsep",
        "<mm_request_receive|mm_request_send|mm_log_handler|monitor_read|monitor_read_log|privsep_preauth>: {text}",
        "6.6-", "note",
        _ex("monitor_read: unpermitted request 12", text="unpermitted request 12"),
    ),
    _row(
        "dns_mismatch",
        "Address {addr} maps to {host}, but this does not map back to the address<.>< - POSSIBLE BREAK-IN ATTEMPT!>",
        "6.6-", "note",
        _ex(
            "Address 10.0.0.5 maps to h.example.com, but this does not map back to the address -"
            " POSSIBLE BREAK-IN ATTEMPT!",
            addr="10.0.0.5", host="h.example.com",
        ),
        _ex(
            "Address 10.0.0.5 maps to h.example.com, but this does not map back to the address.",
            addr="10.0.0.5", host="h.example.com",
        ),
    ),
    _row(
        "dns_failed",
        "reverse mapping checking getaddrinfo for {host} [{addr}] failed<.>< - POSSIBLE BREAK-IN ATTEMPT!>",
        "6.6-", "note",
        _ex(
            "reverse mapping checking getaddrinfo for h.example.com [10.0.0.5] failed - POSSIBLE BREAK-IN ATTEMPT!",
            host="h.example.com", addr="10.0.0.5",
        ),
        _ex(
            "reverse mapping checking getaddrinfo for h.example.com [10.0.0.5] failed.",
            host="h.example.com", addr="10.0.0.5",
        ),
    ),
    _row(
        "dns_nasty", 'Nasty PTR record "{text}" is set up for {addr}, ignoring', "6.6-", "note",
        _ex('Nasty PTR record "10.0.0.1" is set up for 10.0.0.5, ignoring', text="10.0.0.1", addr="10.0.0.5"),
    ),
    _row(
        "tcp_wrapper", "<refused connect from|Connection refused by tcp wrapper>< {text}>", "distro", "note",
        _ex("refused connect from h.example.com (10.0.0.5)", text="h.example.com (10.0.0.5)"),
        _ex("Connection refused by tcp wrapper"),
    ),
)  # fmt: skip

# session.c, serverloop.c, sftp-server.c, auth-pam.c: what goes on in a session.
_SESSION_ROWS = (
    _row(
        "session_start", "Starting session: {text:known}< on {tty}> for {user} from {addr} port {port} id {id}",
        "6.7-", "note",
        _ex(
            "Starting session: shell on pts/0 for bob from 10.0.0.5 port 50022 id 0",
            text="shell", tty="pts/0", user="bob", addr="10.0.0.5", port="50022", id="0",
        ),
        _ex(
            "Starting session: subsystem 'sftp' for bob from 10.0.0.5 port 50022 id 1",
            text="subsystem 'sftp'", user="bob", addr="10.0.0.5", port="50022", id="1",
        ),
        _ex(
            "Starting session: forced-command (key-option) 'cmd' for bob from 10.0.0.5 port 50022 id 0",
            text="forced-command (key-option) 'cmd'", user="bob", addr="10.0.0.5", port="50022", id="0",
        ),
    ),
    _row(  # of one channel: a connection may have several, and outlives each
        "session_close", "Close session: user {user:known} from {addr} port {port} id {id}", "7.0-", "note",
        _ex(
            "Close session: user bob from 10.0.0.5 port 50022 id 0", user="bob", addr="10.0.0.5", port="50022", id="0",
        ),
    ),
    _row(
        "subsystem", "subsystem request for {text:known}< by user {user}<, failed, subsystem not found>>",
        "6.6-", "note",
        _ex("subsystem request for sftp by user bob", text="sftp", user="bob"),
        _ex("subsystem request for sftp", text="sftp"),
    ),
    _row(
        "forward_refused", "refused <local port|streamlocal port> forward: {text}", "6.6-", "note",
        _ex(
            "refused local port forward: originator 127.0.0.1 port 1, target h port 2",
            text="originator 127.0.0.1 port 1, target h port 2",
        ),
    ),
    _row(
        "forward_denied",
        "Received request< from {addr} port {port}> to <connect to|remote forward>{text}, but the request was denied.",
        "6.6-", "note",
        _ex("Received request to connect to host h port 2, but the request was denied.", text=" host h port 2"),
        _ex(
            "Received request from ::1 port 1 to remote forward to path \"/x\", but the request was denied.",
            addr="::1", port="1", text=' to path "/x"',
        ),
    ),
    _row(
        "forward_failed", "connect_to {text}", "6.6-", "note",
        _ex("connect_to h port 2: failed.", text="h port 2: failed."),
    ),
    _row(
        "forward_bind", "<bind|bind [{laddr}]:{lport}|channel_setup_fwd_listener_tcpip>: {text}", "6.6-", "note",
        _ex("bind [::1]:6010: Address already in use", laddr="::1", lport="6010", text="Address already in use"),
    ),
    _row(
        "tunnel", "Tunnel forwarding using interface {tty}", "6.6-", "note",
        _ex("Tunnel forwarding using interface tun0", tty="tun0"),
    ),
    _row(
        "root_command", "Root login accepted for forced command.", "6.6-", "note",
        _ex("Root login accepted for forced command."),
    ),
    _row(
        "not_sftp", "Connection from " + _PEER + ": refusing non-sftp session", "6.6-", "note",
        _ex(
            "Connection from user bob 10.0.0.5 port 1: refusing non-sftp session",
            state="user", user="bob", addr="10.0.0.5", port="1",
        ),
    ),
    _row(
        "home", "Could not chdir to home directory {text}", "6.6-", "note",
        _ex("Could not chdir to home directory /x: No such file", text="/x: No such file"),
    ),
    _row(
        "chroot", "<bad ownership or modes for chroot directory|Changed root directory to|chroot path> {text}",
        "6.6-", "note",
        _ex('bad ownership or modes for chroot directory "/srv"', text='"/srv"'),
    ),
    _row(
        "login_records", "<syslogin_perform_logout|lastlog_openseek|lastlog_write_entry|lastlog_get_entry>: {text}",
        "6.6-", "note",
        _ex("syslogin_perform_logout: logout() returned an error", text="logout() returned an error"),
    ),
    _row(
        "sftp_opened", "session <opened|closed> for local user {user:known} from [{addr}]", "6.6-", "note",
        _ex("session opened for local user bob from [10.0.0.5]", user="bob", addr="10.0.0.5"),
        _ex("session closed for local user bob from [::1]", user="bob", addr="::1"),
    ),
    _row(
        "sftp", "<received client version |opendir |closedir |open |close |forced close |sent status"
        " |remove name |rename old"
        " |mkdir name |rmdir name |set |statvfs |lstat name |stat name |realpath |readlink |symlink"
        " old |hardlink old >{text}",
        "6.6-", "note",
        _ex('open "/tmp/x" flags READ mode 0666', text='"/tmp/x" flags READ mode 0666'),
        _ex('close "/tmp/x" bytes read 9 written 0', text='"/tmp/x" bytes read 9 written 0'),
    ),
)  # fmt: skip

# PAM modules log under sshd's tag, without sshd's escapes. The service is sshd, or what PAMServiceName says.
_PAM_ROWS = (
    _row(
        "pam_opened",
        "<pam_{module}({service}): >session opened for user {user:known}<(uid={uid})> by {by}(uid={by_uid})",
        "pam", "note",
        _ex(
            "pam_unix(sshd:session): session opened for user bob by (uid=0)",
            module="unix", service="sshd:session", user="bob", by="", by_uid="0",
        ),
        _ex(
            "pam_unix(sshd:session): session opened for user bob(uid=1000) by bob(uid=0)",
            module="unix", service="sshd:session", user="bob", uid="1000", by="bob", by_uid="0",
        ),
        _ex("session opened for user bob by root(uid=0)", user="bob", by="root", by_uid="0"),
    ),
    _row(
        "pam_closed", "<pam_{module}({service}): >session closed for user {user}", "pam", "end",
        _ex(
            "pam_unix(sshd:session): session closed for user bob", module="unix", service="sshd:session", user="bob",
        ),
        _ex("session closed for user bob", user="bob"),
    ),
    _row(
        "pam_failure",
        "<pam_{module}({service}): >authentication failure; logname={text} uid={uid} euid={by_uid} tty={tty} ruser={by}"
        " rhost=<{host}><  user={user}>",
        "pam", "note",
        _ex(
            "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser="
            " rhost=10.0.0.5  user=bob",
            module="unix", service="sshd:auth", text="", uid="0", by_uid="0", tty="ssh", by="", host="10.0.0.5",
            user="bob",
        ),
        _ex(
            "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=10.0.0.5",
            module="unix", service="sshd:auth", text="", uid="0", by_uid="0", tty="ssh", by="", host="10.0.0.5",
        ),
    ),
    _row(
        "pam_unknown", "<pam_{module}({service}): >check pass; user unknown", "pam", "note",
        _ex("pam_unix(sshd:auth): check pass; user unknown", module="unix", service="sshd:auth"),
    ),
    _row(
        "pam_more", "<PAM >{count} more authentication failure<s|>; {text}", "pam", "note",
        _ex("PAM 2 more authentication failures; logname= uid=0", count="2", text="logname= uid=0"),
    ),
    _row(
        "pam_retries", "PAM service({service}) ignoring max retries; {text}", "pam", "note",
        _ex("PAM service(sshd) ignoring max retries; 6 > 3", service="sshd", text="6 > 3"),
    ),
    _row(
        "pam_module", "pam_{module}({service}): {text}", "pam", "note",
        _ex(
            "pam_faillock(sshd:auth): User unknown", module="faillock", service="sshd:auth", text="User unknown",
        ),
        last=True,
    ),
    _row(
        "pam_library", "PAM <unable to dlopen|adding faulty module|audit_log_acct_message() failed>{text}",
        "pam", "note",
        _ex("PAM adding faulty module: /lib/security/x.so", text=": /lib/security/x.so"),
    ),
)  # fmt: skip

# sshd.c: the listener itself.
_DAEMON_ROWS = (
    _row(
        "listening", "Server listening on {text}", "6.6-", "note",
        _ex("Server listening on 0.0.0.0 port 22.", text="0.0.0.0 port 22."),
    ),
    _row(
        "signal", "Received signal {signal}; terminating.", "6.6-", "note",
        _ex("Received signal 15; terminating.", signal="15"),
    ),
    _row(
        "hangup", "Received SIGHUP; <restarting|waiting for children><.>", "6.6-", "note",
        _ex("Received SIGHUP; restarting."),
    ),
    _row("exiting", "Exiting on signal {signal}", "6.6-", "note", _ex("Exiting on signal 15", signal="15")),
    _row(
        "restart_failed", "RESTART FAILED: {text}", "6.6-", "note",
        _ex("RESTART FAILED: av[0]='x'", text="av[0]='x'"),
    ),
    _row(
        "bind_failed", "<Bind to port |Cannot bind any address|listen on |socket: |accept: |fork: >{text}",
        "6.6-", "note",
        _ex("Bind to port 22 on 0.0.0.0 failed: x.", text="22 on 0.0.0.0 failed: x."),
        last=True,
    ),
    _row(
        "host_key",
        "<Could not load host|Unable to load host|Could not demote|Public key for> {text}",
        "6.6-", "note",
        _ex("Unable to load host key: /etc/ssh/k", text="key: /etc/ssh/k"),
        last=True,
    ),
    _row(
        "no_host_key", "sshd: no hostkeys available -- exiting.", "6.6-", "note",
        _ex("sshd: no hostkeys available -- exiting."),
    ),
    _row(
        "privsep_missing", "<Missing privilege separation directory:|Privilege separation user> {text}", "6.6-", "note",
        _ex("Missing privilege separation directory: /run/sshd", text="/run/sshd"),
    ),
    _row(
        "config_line", "{path:known} line {line}: {text}", "6.6-", "note",
        _ex(
            "rexec line 12: Deprecated option UsePrivilegeSeparation",
            path="rexec", line="12", text="Deprecated option UsePrivilegeSeparation",
        ),
        _ex(
            "/etc/ssh/sshd_config line 3: Unsupported option X",
            path="/etc/ssh/sshd_config", line="3", text="Unsupported option X",
        ),
        last=True,
    ),
    _row(
        "internal_error", "INTERNAL ERROR: {text}", "6.6-", "note",
        _ex("INTERNAL ERROR: authenticated and postponed", text="authenticated and postponed"),
    ),
    _row(
        "warning", "WARNING: {text}", "6.6-", "note",
        _ex(
            "WARNING: /etc/ssh/moduli does not exist, using fixed modulus",
            text="/etc/ssh/moduli does not exist, using fixed modulus",
        ),
        last=True,
    ),
    _row(
        "repeated", "last message repeated {count} times", "rsyslog", "note",
        _ex("last message repeated 3 times", count="3"),
    ),
)  # fmt: skip

ROWS = (
    *_AUTH_ROWS, *_NAME_ROWS, *_KEY_ROWS, *_CONNECTION_ROWS, *_NOISE_ROWS, *_SESSION_ROWS, *_PAM_ROWS, *_DAEMON_ROWS,
)  # fmt: skip
"""All messages that are known."""

GRAMMAR = compile_rows(ROWS)
