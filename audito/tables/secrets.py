"""Where secrets stand in a command line: what is redacted before anything is written, by rows.

An example is a command line as it is typed, each secret between « and »; that part is what a row hides, and no
more. ``kept`` is what looks alike and is no secret. Every example is read as an argv and as one text (a record of
sudo, keystrokes, the argument of ``sh -c``), and gives the same. ``needles``: wherever a row has something to hide,
the event has a text with one of these in it, in letters of either case; the compiled core looks only for them.
"""

from __future__ import annotations

from typing import NamedTuple

NEEDLE_BYTES_MIN = 4
"""A needle is as long, or it is a whole text: the search takes two bytes a step and looks at three."""


class Names(NamedTuple):
    """Names whose value is a secret: ``--NAME=…``, ``--NAME …``, ``NAME=…``, ``"NAME": "…"``, ``NAME: …``.

    Names are compared in lower case, without digits at their end. ``endings``: a name ends so, ``-``, ``_`` and
    ``.`` left out. ``words``: its last word is one of these. ``later``: as words, and it has another word before.
    """

    name: str
    needles: tuple[str, ...]
    endings: tuple[str, ...]
    words: tuple[str, ...]
    later: tuple[str, ...]
    told: tuple[str, ...]
    kept: tuple[str, ...]


class Flag(NamedTuple):
    """A flag of some programs, and what of its value is secret.

    ``word``: as it is typed, ``-p``; one without a dash is a word that stands before its secret. ``joined``: the
    value may follow without a blank. ``apart``: it may be the next argument. ``after``: the secret is what follows
    this text in the value, and nothing is where it does not occur. ``cluster``: one-letter flags without a value
    that may stand between the dash and the letter. ``sub``: only behind this word, a command of the program.
    """

    word: str
    joined: bool = False
    apart: bool = False
    after: str = ""
    cluster: str = ""
    sub: str = ""


class Program(NamedTuple):
    """Flags of programs that mean a secret there and something else elsewhere.

    ``leading``: they stand before the first word that is no flag, which begins another command. ``account``: a word
    that is no flag may be ``NAME/SECRET`` or ``NAME/SECRET@…``.
    """

    name: str
    programs: tuple[str, ...]
    needles: tuple[str, ...]
    flags: tuple[Flag, ...]
    told: tuple[str, ...]
    kept: tuple[str, ...]
    leading: bool = False
    account: bool = False


class Shape(NamedTuple):
    """A secret that is known by its form, wherever it stands.

    ``pattern``: looked for only where a needle begins; in time linear in the text. What is hidden is its one group,
    or all of it. "" is the pattern of URLs, which is compiled.
    """

    name: str
    needles: tuple[str, ...]
    pattern: str
    told: tuple[str, ...]
    kept: tuple[str, ...]


def _names(
    name: str,
    needles: str,
    endings: str,
    told: tuple[str, ...],
    kept: tuple[str, ...],
    words: str = "",
    later: str = "",
) -> Names:
    return Names(
        name, tuple(needles.split()), tuple(endings.split()), tuple(words.split()), tuple(later.split()), told, kept
    )


def _program(
    name: str,
    programs: str,
    flags: tuple[Flag, ...],
    told: tuple[str, ...],
    kept: tuple[str, ...],
    *,
    needles: tuple[str, ...] = (),
    leading: bool = False,
    account: bool = False,
) -> Program:
    """Without ``needles`` the programs' names are the needles."""
    names = tuple(programs.split())
    return Program(name, names, needles or names, flags, told, kept, leading, account)


NAMES = (
    _names(
        "password",
        "pass _pwd -pwd bindpw rootpw",
        "password passwd passwrd passphrase passcode storepass keypass userpass dbpass rootpass adminpass sudopass"
        " bindpw rootpw sshpass",
        (
            "SSHPASS=«hunter2» sshpass -e ssh host",
            "pg_restore --password=«hunter2» dump",
            "wget --http-password «hunter2» https://example.com/",
            "wget --ftp-password=«-x» ftp://example.com/",
            "keytool -list -storepass «hunter2» -alias a",
            "env PGPASSWORD=«hunter2» psql -h db",
            "PGPASSWORD=«hunter2» MYSQL_PASS='«a b»' DB_PWD=«x,y» make",
            "java -Dspring.datasource.password=«hunter2» -jar app.jar",
            "ADMIN_PASSWORD_2=«hunter2» ./setup",
            "mount -t cifs //srv/share /mnt -o user=bob,password=«hunter2»,ro",
            "curl -d 'user=bob&password=«hunter2»&remember=1' example.com",
            'curl -d \'{"user": "bob", "password": "«hunter 2»", "n": 1}\' example.com',
            "psql 'host=db user=bob password=«hunter2» dbname=x'",
            "gpg --batch --passphrase «hunter2» -c file",
            "restic --repo x --dbPassword=«hunter2»",
            "ansible all -e ansible_become_pass=«hunter2» -m ping",
            "ldapmodify --bindpw «hunter2»",
            "echo 'password: «hunter2»'",
        ),
        (
            "docker login --password-stdin registry.example.com",
            "curl --pass-file /etc/x --password-file=/etc/y",
            "psql --password mydb",
            "mysql --password mydb",
            "ansible-playbook --ask-pass site.yml",
            "sudo --askpass id",
            "useradd --no-password bob",
            "passwd bob",
            "cat /etc/passwd /etc/pam.d/password-auth",
            "pass show mail/work",
            "env PWD=/home/bob OLDPWD=/ make",
            "gcc --compass=north --bypass x",
            "wget --password= ftp://example.com/",
        ),
        words="pass",
        later="pwd",
    ),
    _names(
        "secret",
        "secret",
        "secret secretkey secretkeybase",
        (
            "oidc --client-secret=«abc123» --issuer x",
            "CLIENT_SECRET=«abc123» ./run",
            "terraform apply -var 'app_secret=«abc123»'",
        ),
        ("kubectl get secret db -o yaml", "kubectl delete secrets --all", "cat /run/secrets/x", "ls --secretary me"),
    ),
    _names(
        "token",
        "token",
        "token",
        (
            "kubectl --token=«abc123» get pods",
            "gh auth login --with-token x --token «abc123»",
            "GITHUB_TOKEN=«abc123» make release",
            "curl 'https://example.com/x?access_token=«abc123»&page=2'",
            "curl -H 'X-Auth-Token: «abc 123»' example.com",
            "npm config set //registry.example.com/:_authToken=«abc123»",
            "http POST example.com accessToken=«abc123»",
        ),
        (
            "aws s3api list-objects --starting-token abc --max-items 5",
            "vllm --max-tokens 4096 --tokenizer llama",
            "docker pull example.com/token:latest",
            "cat token.txt",
        ),
    ),
    _names(
        "key",
        "apikey api-key api_key api.key accesskey access-key access_key accountkey account-key account_key authkey"
        " auth-key auth_key masterkey master-key master_key sharedkey shared-key shared_key encryptionkey"
        " encryption-key encryption_key subscriptionkey subscription-key subscription_key",
        "apikey accesskey accountkey authkey masterkey sharedkey encryptionkey subscriptionkey",
        (
            "tailscale up --auth-key «tskey-abc»",
            "AWS_SECRET_ACCESS_KEY=«wJalrXUtnFEMI/K7MDENG» aws s3 ls",
            "az storage blob list --account-key=«abc123==»",
            "curl -H 'X-Api-Key: «abc123»' example.com",
            "curl 'https://maps.example.com/?apikey=«abc123»'",
        ),
        (
            "ssh-keygen -t ed25519 -f key",
            "curl --key client.pem --cert client.crt example.com",
            "apt-key list",
            "sort --key=2 keys.txt",
            "ansible --private-key ~/.ssh/id_ed25519 all",
        ),
    ),
    _names(
        "authorization",
        "authoriz cookie",
        "authorization cookie",
        (
            'curl -H "Authorization: Bearer «abc.def»" example.com',
            "curl -H 'authorization: Basic «Ym9iOng=»' example.com",
            "curl --header 'Proxy-Authorization: «abc123»' example.com",
            "curl --header='Cookie: «session=abc; theme=dark»' example.com",
            "git -c http.extraheader='AUTHORIZATION: basic «Ym9iOng=»' fetch",
        ),
        ("authorize-user bob", "curl --cookie-jar jar.txt example.com", "ls authorization/", "cut --author x"),
    ),
)

SWITCH_WORDS = ("ask", "askpass", "change", "check", "force", "forgot", "no", "prompt", "random", "require", "reset",
                "show", "skip", "verify", "with", "without")  # fmt: skip
"""A flag with one of these words before the last takes no value: ``--ask-pass``. With ``=`` it has one all the same."""

SWITCH_PROGRAMS = (
    "createdb", "createuser", "dropdb", "dropuser", "pg_basebackup", "pg_dump", "pg_dumpall", "pg_restore",
    "pg_receivewal", "psql", "reindexdb", "vacuumdb", "mysql", "mysqladmin", "mysqlbinlog", "mysqlcheck", "mysqldump",
    "mysqlimport", "mysqlshow", "mysqlslap", "mariadb", "mariadb-admin", "mariadb-binlog", "mariadb-check",
    "mariadb-dump", "mariadb-import", "mariadb-show", "mariadb-slap",
)  # fmt: skip
"""Of these ``--password`` without ``=`` asks for one: what follows is another argument."""

NO_SECRETS = ("askpass", "nexttoken", "startingtoken", "continuationtoken", "pagetoken", "maxtoken", "publickey")
"""Names with these endings have no secret, whatever the rows say."""

SCHEMES = ("basic", "bearer", "digest", "negotiate", "ntlm", "token", "apikey", "aws4-hmac-sha256")
"""First word of an ``Authorization`` header, which is no secret."""

_ARCHIVERS = (
    "7z", "7za", "7zr", "7zz", "rar", "n/7z", "p7zip", "/7za", "/7zr", "/7zz", "/rar", "unrar", "rar ", "7z -",
    "7z a", "7z d", "7z e", "7z l", "7z t", "7z u", "7z x", "7za ", "7zr ", "7zz ",
)  # fmt: skip
"""Their names are short: as a whole text, at the end of a path, or before a command."""

_CURL_SWITCHES = "#0123469aBfgGiIjJklLMnNOpqRsSvZ"

PROGRAMS = (
    _program(
        "mysql",
        "mysql mysqldump mysqladmin mysqlimport mysqlshow mysqlcheck mysqlbinlog mysqlpump mysqlsh mysqlslap mycli mytop"
        " mariadb mariadb-dump mariadb-admin mariadb-import mariadb-show mariadb-check mariadb-binlog mariadb-slap",
        (
            Flag("-p", joined=True, cluster="ABbCEfGHijLNnoqrsTtvVwX"),
            Flag("password", apart=True),
        ),
        (
            "mysql -u root -p«hunter2» mydb",
            "mysqldump -uroot '-p«a b»' --all-databases",
            "sudo -u bob mariadb -Bp«hunter2» -e 'select 1'",
            "docker exec db mysql -p«hunter2»",
            "sh -c 'mysql -p«hunter2» <x.sql'",
            "mysqladmin -u root password «hunter2»",
            "/opt/mysql/bin/mysql -h db '-p«hunter2»'",
        ),
        ("mysql -u root -p mydb", "mysql -P3306 -hprod -Dproduction", "mysql -uproot", "apt install mysql-client -pq"),
        needles=("mysql", "mariadb", "mycli", "mytop"),
    ),
    _program(
        "curl",
        "curl",
        (
            Flag("-u", joined=True, apart=True, after=":", cluster=_CURL_SWITCHES),
            Flag("-U", joined=True, apart=True, after=":", cluster=_CURL_SWITCHES),
            Flag("--user", joined=True, apart=True, after=":"),
            Flag("--proxy-user", joined=True, apart=True, after=":"),
            Flag("-E", joined=True, apart=True, after=":", cluster=_CURL_SWITCHES),
            Flag("--cert", joined=True, apart=True, after=":"),
            Flag("-b", joined=True, apart=True, after="=", cluster=_CURL_SWITCHES),
            Flag("--oauth2-bearer", joined=True, apart=True),
        ),
        (
            "curl -u bob:«hunter2» https://example.com/",
            "curl -sSu 'bob:«a:b c»' https://example.com/",
            "curl -ubob:«hunter2» example.com",
            "curl --user=bob:«hunter2» example.com",
            "curl --proxy-user bob:«x» example.com",
            "curl -u «0123abcd»: example.com",
            "curl -E client.pem:«hunter2» example.com",
            "curl -b 'session=«abc»' example.com",
            "curl --oauth2-bearer «abc» example.com",
            "xargs -n1 curl -u bob:«hunter2»",
        ),
        ("curl -u bob example.com", "curl -fsSL https://example.com:8443/ -o /tmp/x", "curl -b jar.txt example.com"),
    ),
    _program(
        "sshpass",
        "sshpass",
        (Flag("-p", joined=True, apart=True, cluster="ve"),),
        ("sshpass -p «hunter2» ssh -p 22 bob@example.com", "sshpass -v '-p«a b»' scp x host:"),
        ("sshpass -e ssh -p 22 bob@example.com", "sshpass -f /etc/x ssh -p 22 host"),
        leading=True,
    ),
    _program(
        "redis",
        "redis-cli valkey-cli",
        (Flag("-a", apart=True), Flag("AUTH", apart=True), Flag("auth", apart=True)),
        ("redis-cli -h cache -a «hunter2» ping", "redis-cli AUTH «hunter2»"),
        ("redis-cli -h cache get key", "redis-cli -p 6379 ping"),
    ),
    _program(
        "mongo",
        "mongo mongosh mongodump mongorestore mongoexport mongoimport mongostat mongotop mongofiles",
        (Flag("-p", joined=True, apart=True),),
        ("mongosh -u bob -p «hunter2» --host db", "mongodump -u bob -p«hunter2»"),
        ("mongosh -u bob -p --host db", "mongosh --port 27017"),
        needles=("mongo",),
    ),
    _program(
        "ldap",
        "ldapsearch ldapadd ldapmodify ldapdelete ldapwhoami ldapcompare ldapmodrdn ldappasswd ldapexop",
        (
            Flag("-w", joined=True, apart=True, cluster="xvnc"),
            Flag("-s", joined=True, apart=True, sub="ldappasswd"),
            Flag("-a", joined=True, apart=True, sub="ldappasswd"),
        ),
        (
            "ldapsearch -x -D cn=admin -w «hunter2» -b dc=x",
            "ldapadd -xw «hunter2» -f x.ldif",
            "ldappasswd -s «hunter2» -a «old» uid=bob",
        ),
        ("ldapsearch -x -W -D cn=admin -s sub", "ldapadd -y /etc/x -f x.ldif"),
        needles=("ldap",),
    ),
    _program(
        "smb",
        "smbclient smbget smbcacls smbcquotas smbspool smbtree rpcclient winexe net",
        (Flag("-U", joined=True, apart=True, after="%"), Flag("--user", joined=True, apart=True, after="%")),
        ("smbclient //srv/share -U bob%«hunter2»", "rpcclient '-UDOM\\bob%«a b»' srv", "net rpc info --user=bob%«x»"),
        ("smbclient //srv/share -U bob -c ls", "net ads info"),
        needles=(
            "smbc",
            "smbget",
            "smbspool",
            "smbtree",
            "rpcclient",
            "winexe",
            "net rpc",
            "net ads",
            "bin/net",
            "net",
        ),
    ),
    _program(
        "registry",
        "docker podman buildah skopeo helm nerdctl crane oras az",
        (
            Flag("-p", joined=True, apart=True, sub="login"),
            Flag("--creds", joined=True, apart=True, after=":"),
            Flag("--src-creds", joined=True, apart=True, after=":"),
            Flag("--dest-creds", joined=True, apart=True, after=":"),
        ),
        (
            "docker login -u bob -p «hunter2» registry.example.com",
            "skopeo copy --src-creds bob:«hunter2» --dest-creds=bob:«x» docker://a docker://b",
            "helm registry login example.com -u bob -p «hunter2»",
        ),
        ("docker run -p 8080:80 -u 1000:1000 nginx", "docker login registry.example.com", "helm repo list"),
        needles=("docker login", "podman login", "login", "creds"),
    ),
    _program(
        "kubernetes",
        "kubectl oc",
        (Flag("--from-literal", joined=True, apart=True, after="=", sub="secret"),),
        ("kubectl create secret generic db --from-literal=user=«bob» --from-literal pin=«1234»",),
        ("kubectl create configmap x --from-literal=color=blue", "kubectl get secret db"),
        needles=("secret",),
    ),
    _program(
        "aws",
        "aws",
        (Flag("aws_secret_access_key", apart=True), Flag("aws_session_token", apart=True)),
        ("aws configure set aws_secret_access_key «wJalrXUtnFEMI» --profile x",),
        ("aws configure get aws_secret_access_key", "aws s3 ls"),
        needles=("aws_se",),
    ),
    _program(
        "lftp",
        "lftp",
        (Flag("-u", joined=True, apart=True, after=","),),
        ("lftp -u bob,«hunter2» sftp://example.com",),
        ("lftp -u bob sftp://example.com", "lftp -p 22 -e 'mirror; quit' host"),
    ),
    _program(
        "putty",
        "plink pscp psftp pageant",
        (Flag("-pw", apart=True),),
        ("plink -ssh bob@example.com -pw «hunter2» uptime",),
        ("plink -P 22 bob@example.com",),
        needles=("plink", "pscp", "psftp", "pageant"),
    ),
    _program(
        "mssql",
        "sqlcmd bcp osql",
        (Flag("-P", joined=True, apart=True),),
        ("sqlcmd -S db -U sa -P «hunter2» -Q 'select 1'", "bcp t out f -P«hunter2»"),
        ("sqlcmd -S db -E", "sqlcmd -p 1"),
        needles=("sqlcmd", "bcp", "bin/bcp", "bcp ", "osql"),
    ),
    _program(
        "snmp",
        "snmpget snmpgetnext snmpwalk snmpbulkget snmpbulkwalk snmpset snmptrap snmpinform snmptable snmpstatus snmpdf",
        (Flag("-c", joined=True, apart=True), Flag("-A", joined=True, apart=True), Flag("-X", joined=True, apart=True)),
        ("snmpwalk -v2c -c «public» host .1", "snmpget -v3 -a SHA -A «hunter2» -x AES -X «hunter3» host .1"),
        ("snmpwalk -v3 -u bob -l noAuthNoPriv host",),
        needles=("snmp",),
    ),
    _program(
        "ipmi",
        "ipmitool ipmi-config ipmipower",
        (Flag("-P", joined=True, apart=True),),
        ("ipmitool -I lanplus -H bmc -U admin -P «hunter2» power status",),
        ("ipmitool -H bmc -p 623 -E sensor",),
        needles=("ipmi",),
    ),
    _program(
        "mqtt",
        "mosquitto_pub mosquitto_sub mosquitto_rr",
        (Flag("-P", apart=True), Flag("--pw", apart=True)),
        ("mosquitto_pub -h broker -u bob -P «hunter2» -t a -m hi",),
        ("mosquitto_sub -h broker -p 1883 -t '#'",),
        needles=("mosquitto",),
    ),
    _program(
        "zip",
        "zip unzip",
        (Flag("-P", apart=True),),
        ("zip -P «hunter2» out.zip file", "unzip -q -P «hunter2» out.zip"),
        ("zip -r out.zip dir", "gzip -P x"),
        needles=("zip", "/zip", "zip ", "unzip"),
    ),
    _program(
        "archive",
        "7z 7za 7zr 7zz rar unrar",
        (Flag("-p", joined=True), Flag("-hp", joined=True)),
        ("7z a -p«hunter2» out.7z file", "rar a -hp«hunter2» out.rar file"),
        ("7z x -o/tmp out.7z", "rar a -p out.rar file"),
        needles=_ARCHIVERS,
    ),
    _program(
        "rdp",
        "xfreerdp xfreerdp3 wlfreerdp sdl-freerdp rdesktop",
        (Flag("/p:", joined=True), Flag("-p", apart=True)),
        ("xfreerdp /u:bob /p:«hunter2» /v:host", "rdesktop -u bob -p «hunter2» host"),
        ("xfreerdp /u:bob /v:host /port:3389",),
        needles=("freerdp", "rdesktop"),
    ),
    _program(
        "openssl",
        "openssl",
        (
            Flag("-pass", apart=True, after="pass:"),
            Flag("-passin", apart=True, after="pass:"),
            Flag("-passout", apart=True, after="pass:"),
            Flag("-k", apart=True, sub="enc"),
            Flag("-K", apart=True, sub="enc"),
        ),
        (
            "openssl rsa -in key.pem -passin pass:«hunter2»",
            "openssl enc -aes-256-cbc -k «hunter2» -in x",
            "openssl pkcs12 -export -passout 'pass:«a b»' -in x",
        ),
        ("openssl rsa -in key.pem -passin file:/etc/x", "openssl rsa -passin env:PW", "openssl s_client -k x"),
    ),
    _program(
        "useradd",
        "useradd usermod groupadd groupmod",
        (Flag("-p", joined=True, apart=True),),
        ("useradd -m -p «$6$salt$hash» bob", "usermod '-p«!»' bob"),
        ("useradd -m -s /bin/bash bob", "usermod -aG wheel bob"),
        needles=("useradd", "usermod", "groupadd", "groupmod"),
    ),
    _program(
        "cql",
        "cqlsh",
        (Flag("-p", joined=True, apart=True),),
        ("cqlsh -u bob -p «hunter2» host",),
        ("cqlsh -u bob host 9042",),
    ),
    _program(
        "vault",
        "vault",
        (Flag("login", apart=True),),
        ("vault login «hvs-abc»",),
        ("vault login -method=oidc", "vault status"),
    ),
    _program(
        "nmcli",
        "nmcli",
        (Flag("password", apart=True),),
        ("nmcli dev wifi connect home password «hunter2»",),
        ("nmcli dev wifi connect home", "nmcli con show"),
    ),
    _program(
        "twine",
        "twine",
        (Flag("-p", apart=True),),
        ("twine upload -u bob -p «hunter2» dist/x.whl",),
        ("twine check dist/x.whl",),
    ),
    _program(
        "oracle",
        "sqlplus sqlldr expdp impdp rman",
        (),
        ("sqlplus scott/«tiger»@orcl", "expdp system/«tiger» full=y"),
        ("sqlplus / as sysdba", "sqlplus scott@orcl @/opt/x.sql"),
        account=True,
    ),
)

SHAPES = (
    Shape(
        "url",
        (),  # the search has this one built in: "://" and an "@" behind it
        "",
        (
            "git clone https://bob:«hunter2»@example.com/x.git",
            "psql postgres://bob:«p@ss:word»@db/x",
            "redis-cli -u redis://:«hunter2»@cache:6379/0",
            "DATABASE_URL=amqp://bob:«x»@mq make",
            "wget 'ftp://bob:«a/b»@example.com/'",
            "docker run -e https_proxy=http://bob:«hunter2»@proxy:3128 image",
        ),
        (
            "git clone ssh://git@example.com:22/x.git",
            "curl https://example.com:8443/a@b",
            "curl 'https://example.com/?mail=a:b@c'",
            "scp bob@example.com:x .",
            "ping http://[::1]:80/x@y",
        ),
    ),
    Shape(
        "bearer",
        ("bearer",),
        r"(?i)(?<![a-z0-9])bearer[\s:]{1,4}+([^\s\"',;]{8,}+)",
        ("echo 'Bearer «abcdefgh12»'", "http example.com 'Auth:Bearer «abcdefgh12»'"),
        ("echo the bearer of rings", "cat bearer.txt"),
    ),
    Shape(
        "private-key",
        ("-----BEGIN ",),
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(.*?)(?:-----END |\Z)",
        (
            "echo '-----BEGIN OPENSSH PRIVATE KEY-----«\nb3BlbnNzaC1rZXk\nAAAA\n»-----END OPENSSH PRIVATE KEY-----'",
            "echo '-----BEGIN PRIVATE KEY-----«MIIEvQ»-----END PRIVATE KEY-----'",
        ),
        ("echo '-----BEGIN PUBLIC KEY-----MIIB-----END PUBLIC KEY-----'", "grep -c 'PRIVATE KEY' x.pem"),
    ),
    Shape(
        "npm",
        ("_auth",),
        r"(?<![A-Za-z0-9])_auth\s{0,4}+=\s{0,4}+([^\s\"']+)",
        ("npm config set //registry.example.com/:_auth=«Ym9iOng=»",),
        ("npm config get _auth", "make no_auth=1"),
    ),
    Shape(
        "sql",
        ("identified ", "password '"),
        r"(?i)(?:identified\s{1,4}+(?:with\s{1,4}+\S{1,64}\s{1,4}+)?by\s{1,4}+(?:password\s{1,4}+)?|password\s{1,4}+)'([^']+)",
        (
            """psql -c "alter user bob with password '«hunter 2»'" """,
            """mysql -e "CREATE USER bob IDENTIFIED BY '«hunter2»'; select 1" """,
            """mysql -e "alter user bob identified with sha256_password by '«hunter2»'" """,
        ),
        ("psql -c 'alter user bob password null'", "echo identified by nobody"),
    ),
    Shape(
        "connection-string",
        ("pwd=", "pwd ="),
        r"(?i)(?:(?<=;)|(?<=; ))pwd ?= ?([^;\"']+)",
        ("isql -k 'Driver=x;Server=db;UID=sa;PWD=«hunter 2»;Encrypt=yes'",),
        ("env PWD=/tmp make", "sh -c 'PWD=/tmp make'"),
    ),
    Shape(
        "aws-key-id",
        ("AKIA", "ASIA"),
        r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",
        ("echo «AKIAIOSFODNN7EXAMPLE»", "aws --profile «ASIAIOSFODNN7EXAMPLE»"),
        ("echo AKIAIOSFODNN7", "ls /usr/share/nakia"),
    ),
    Shape(
        "github",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{20,}+|github_pat_[A-Za-z0-9_]{22,}+)",
        ("git clone https://«ghp_0123456789abcdefghijABCDEFGHIJ012345»@github.com/x",
         "echo «github_pat_0123456789abcdefghijAB_CDEFGHIJ012345»"),
        ("ls ghp_short", "cat github_pat_x"),
    ),
    Shape(
        "gitlab",
        ("glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "glft-", "gloas-"),
        r"(?<![A-Za-z0-9])gl(?:pat|dt|rt|cbt|ptt|ft|oas)-[A-Za-z0-9_-]{20,}+",
        ("git clone https://x.example.com/?t=«glpat-0123456789abcdefghij»",),
        ("ls glpat-x",),
    ),
    Shape(
        "slack",
        ("xoxb-", "xoxp-", "xoxa-", "xoxr-", "xoxs-", "xoxe", "xapp-", "hooks.slack.com"),
        r"(?:(?<![A-Za-z0-9])(?:xox[abeprs](?:\.xox[bp])?|xapp)-[A-Za-z0-9-]{10,}+)"
        r"|hooks\.slack\.com/(?:services|workflows)/([A-Za-z0-9/_-]{8,}+)",
        ("slack-post -t «xoxb-012345678901-abcdefghijkl»",
         "curl https://hooks.slack.com/services/«T000/B000/abcdefgh»"),
        ("echo xoxb-x", "ping hooks.slack.com"),
    ),
    Shape(
        "jwt",
        (".eyJ",),
        r"(?<=[A-Za-z0-9_-])\.eyJ[A-Za-z0-9_-]{4,}+(?:\.[A-Za-z0-9_-]*+)?",  # the part before it says how it was signed
        ("echo eyJhbGciOiJIUzI1NiJ9«.eyJzdWIiOiIxIn0.c2lnbmF0dXJl»",),
        ("echo eyJhbGciOiJIUzI1NiJ9", "ls x.eyJ", "ls .eyJabcdef"),
    ),
    Shape(
        "vendor",
        ("AIza", "sk_live_", "rk_live_", "sk_test_", "rk_test_", "npm_", "pypi-AgE", "ya29.", "hvs.", "dop_v1_",
         "sk-ant-", "sk-proj-", "shpat_", "AGE-SECRET-KEY-1"),
        r"(?<![A-Za-z0-9])(?:AIza[A-Za-z0-9_-]{35}|[rs]k_(?:live|test)_[A-Za-z0-9]{16,}+|npm_[A-Za-z0-9]{36}"
        r"|pypi-AgE[A-Za-z0-9_-]{50,}+|ya29\.[A-Za-z0-9_-]{20,}+|hvs\.[A-Za-z0-9_-]{20,}+|dop_v1_[a-f0-9]{64}"
        r"|sk-(?:ant|proj)-[A-Za-z0-9_-]{20,}+|shpat_[a-fA-F0-9]{32}|AGE-SECRET-KEY-1[A-Z0-9]{58})",
        ("curl -u «sk_live_0123456789abcdefABCD»: example.com", "echo «npm_0123456789abcdefghijklmnopqrstuvwxyz»",
         "echo «AIza0123456789abcdefghijklmnopqrstuvwxy»"),
        ("echo npm_config_cache", "ls sk_live_x"),
    ),
)  # fmt: skip

ROWS: tuple[Names | Program | Shape, ...] = (*NAMES, *PROGRAMS, *SHAPES)
ROW_NAMES = tuple(row.name for row in ROWS)

URL_ROW = "url"
HEADER_ROW = "authorization"
"""Rows that the code knows: URLs are compiled, and a header's value begins with a word that is no secret."""
