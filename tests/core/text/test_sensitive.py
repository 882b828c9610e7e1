"""Secrets and personal data: each rule's own examples, what resembles them, masks, redaction, and texts that cost nothing."""

import base64
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.text.sensitive import search
from tasks.core.text.sensitive.rules import RULES, is_card_number, is_iban

BOTH = ("secret", "personal")


def letters(number, alphabet="aB3dE5gH7jK9mN2pQ4rS6tU8vW"):
    """Random enough for a key, and no key of anybody."""
    return (alphabet * (number // len(alphabet) + 1))[:number]


HEADER = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
PAYLOAD = base64.urlsafe_b64encode(b'{"sub":"1234567890"}').decode().rstrip("=")
VALUES = {
    "private-key": "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nabc\n-----END RSA PRIVATE KEY-----",
    "aws-access-key": "AKIA" + "Q2W3E4R5T6Y7U2I3",
    "aws-secret-key": letters(40),
    "github-token": "ghp_" + letters(36),
    "gitlab-token": "glpat-" + letters(20),
    "slack-token": "xoxb-" + "123456789012-" + letters(12),
    "slack-webhook": "https://hooks.slack.com/services/T00A1/B00B2/" + letters(24),
    "webhook": f"https://discord.com/api/webhooks/{'1234567890' * 2}/{letters(68)}",
    "stripe-key": "sk_live_" + letters(24),
    "google-api-key": "AIza" + letters(35),
    "anthropic-key": "sk-ant-api03-" + letters(30),
    "openai-key": "sk-proj-" + letters(48),
    "hugging-face-token": "hf_" + letters(34),
    "npm-token": "npm_" + letters(36),
    "pypi-token": "pypi-AgEIcHlwaS5vcmc" + letters(60),
    "sendgrid-key": f"SG.{letters(22)}.{letters(43)}",
    "telegram-token": "123456789:AA" + letters(33),
    "azure-storage-key": letters(86) + "==",
    "service-token": "sk-or-v1-" + letters(64, "0a1b2c3d4e5f6789"),
    "json-web-token": f"{HEADER}.{PAYLOAD}.{letters(43)}",
    "url-password": "s3cr3t-w0rd",
    "authorization": letters(40),
    "password": "tr0ub4dor&3",
    "password-line": "tr0ub4dor3xyz",
    "password-parameter": "S3cure!Passw0rd",
    "netrc-password": "Xy12zq",
    "pgpass-line": "Tr0ub4dor3x",
    "e-mail-address": "anna.schmidt+news@mail.web.de",
    "phone-number": "+49 30 901820",
    "iban": "DE89 3704 0044 0532 0130 00",
    "card-number": "4111 1111 1111 1111",
    "ip-address": "8.8.4.4",
}
AROUND = {
    "aws-secret-key": "aws_secret_access_key = {}",
    "azure-storage-key": "AccountName=a;AccountKey={};EndpointSuffix=core.windows.net",
    "url-password": "postgres://reader:{}@db.internal:5432/x",
    "password": "password: '{}'",
    "password-line": "a file .env:\nexport DB_PASSWORD={}\n",
    "authorization": "Authorization: Bearer {}",
    "password-parameter": "Server=db;User ID=sa;Password={};Encrypt=True",
    "netrc-password": "machine api.heroku.com\n  login joe\n  password {}\n",
    "pgpass-line": "a file:\ndb.example.net:5432:shop:reader:{}\n",
}


def found(text):
    return [(span.rule.name, span.value) for span in search.spans(text, BOTH)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_finds_its_own_and_its_hint_too(rule):
    value = VALUES[rule.name]
    text = f"Before, {AROUND.get(rule.name, '{}').format(value)} and after."
    assert found(text) == [(rule.name, value)]
    assert rule in search.suspects(["", "a text without anything", text])[2]
    assert search.redacted(text, BOTH) == text.replace(value, f"[{rule.name}]")
    (span,) = search.spans(text, BOTH)
    assert value not in span.masked
    assert span.masked.endswith(f"… ({len(value)} characters)")


@pytest.mark.parametrize(
    "text",
    [
        "aws: AKIAIOSFODNN7EXAMPLE",
        "password = 'your-password-1'",
        "password = '<password1>'",
        "password: '${DB_PASSWORD1}'",
        "password = os.environ['PASSWORD']",
        "password = hash2(value1)",
        "    password = other_password1",
        "the password: abcdefgh1 was old",
        "PASSWORD=changeme1 # not yet",
        'PASSWORD = "correcthorse"',  # letters alone: a word, not a password
        "postgres://user:password@localhost/db",
        "https://user:${TOKEN}@github.com/a/b",
        "eyJhbGciOiJub3QganNvbg.eyJhbGciOiJub3QganNvbg.abcdefghijklmnop",
        "ghp_tooshort",
        "hf_" + "x" * 34,
        "write to someone@example.com or a@b.test",
        "y = x@w.reshape(3)",
        "@decorator.name and a @ b",
        "+49 1234",  # no number of Germany's plan
        "order +1234567890123456789",
        "DE88 3704 0044 0532 0130 00",  # a wrong check digit
        "4111 1111 1111 1112",
        "1234567890123456",
        "4\u202f111\u202f111 111\u202f111\u202f111",  # millions, and not a card number
        "127.0.0.1, 192.168.1.1, 10.0.0.8, 203.0.113.7, 999.8.8.8",
        "version 1.2.3.4.5 and v1.2.3.4",
        "::1 and fe80::1, 12:34:56",
        "time 10:20:30",
        "sha256:d41d8cd98f00b204e9800998ecf8427e",
        "[e-mail address] [github-token]",
        "icon@2x.png, sprite@1.5x.svg and app@1.0.0.tgz",
        "git clone git@github.com:psf/requests.git or ssh://git@gitlab.com/a/b.git",
        "noreply@github.com and do-not-reply@web.de",
        'version 1.2.3.4, Version="4.5.6.7", <version>3.1.4.15</version> and AssemblyVersion("4.5.6.7")',
        "opencv-python==4.8.1.78\nsection 1.2.3.4, §5.1.2.1",
        "Authorization: Bearer YOUR_API_KEY_123456",
        'headers = {"Authorization": f"Bearer {api_key}"}',
        "Bearer authentication1 is required",
        "Authorization: Bearer access_token_2_goes_here",
        "SECRET_KEY = os.environ['SECRET_KEY1']",
        "SECRET_KEY=${SECRET_KEY1}",
        "api_key = settings.api_key_of_2026",
        "token: 'word2vec1'",
        "pad_token = '<|endoftext1|>'",
        "mysql --password=<password1> db",
        "machine learning login page password reset",
        "if (ok&&password==value123) {",
        "sk-learn, sk-or-not, xapp-icon and key-value",
        "http://localhost:8080/a1/b@c.d and http://host:8080/user1@name",
        "http://{host}:{port}/v1/users/@me and https://cdn.net:npm/vue@v",
        "file.c:10:5:note:expected8\n12:30:10:20:abcdef1\nroot:x:0:0:root1x",
        "*:*:*:postgres:<password1>",
    ],
)
def test_what_resembles_them_is_left(text):
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mail a.b@web.de, c@firma.example.de and d@uni-x.edu.", ["a.b@web.de", "c@firma.example.de", "d@uni-x.edu"]),
        ("(+1) +1 650-253-0000 or +44 20 7946 0958", ["+1 650-253-0000", "+44 20 7946 0958"]),
        ("2001:4860:4860:0:0:0:0:8888", ["2001:4860:4860:0:0:0:0:8888"]),
        ("GB82WEST12345698765432", ["GB82WEST12345698765432"]),
        ("378282246310005 5555-5555-5555-4444", ["378282246310005", "5555-5555-5555-4444"]),
        ('{"client_secret": "q1w2e3r4t5"}', ["q1w2e3r4t5"]),
        ("My card is 4111 1111 1111 1111.", ["4111 1111 1111 1111"]),
        ("Order 4711 4111 1111 1111 1111, or 3 4111 1111 1111 1111", ["4111 1111 1111 1111"] * 2),
        ("Card 4111\xa01111\xa01111\xa01111 12/27", ["4111\xa01111\xa01111\xa01111"]),
        ("AB12 DE89\u202f3704\xa00044\u202f0532 0130\xa000\xa0BIC", ["DE89\u202f3704\xa00044\u202f0532 0130\xa000"]),
        ("+49\xa030\u202f901820", ["+49\xa030\u202f901820"]),
        ("3 4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 2 2", []),
        ("4111 1111 1111 1111 12/27, 5555555555554444 123", ["4111 1111 1111 1111", "5555555555554444"]),
        ("li.wei@vip.163.com, josé@corp.com", ["li.wei@vip.163.com", "josé@corp.com"]),
        ("BE68 5390 0754 7034 BIC GEBABEBB", ["BE68 5390 0754 7034"]),
        ("AB12 3456 IBAN BE68 5390 0754 7034 BIC GEBABEBB", ["BE68 5390 0754 7034"]),
        (
            "ES9121000418450200051332 SWIFT, AT61 1904 3002 3457 3201 CODE",
            ["ES9121000418450200051332", "AT61 1904 3002 3457 3201"],
        ),
        *((f"a {key}.", [key]) for key in ("hf_" + letters(34, "aBdEgHjKmNpQ"), "AKIA" + letters(16, "QWERTZUI"))),
        ("redis://:hunter2Pass@cache:6379/0", ["hunter2Pass"]),
        ("postgres://app:p4ss@w0rd@db.acme.io/prod", ["p4ss@w0rd"]),
        ("postgres://app:p4/ss@db.acme.io/prod, amqp://a:b/c1@mq", ["p4/ss", "b/c1"]),
        ("*:*:*:postgres:a:b\nlocalhost:5432:*:me:q1\\:w2e3\r\n/run/pg:5432:x:y:z9z9z9", ["q1\\:w2e3", "z9z9z9"]),
        *(
            (text.format(key), [key])
            for key in (letters(40),)
            for text in (
                "SECRET_KEY = '{}'",
                'app.config["SECRET_KEY"] = "{}"',
                "SECRET_KEY: str = '{}'",
                '{{"token": "{}"}}',
                '"SecretAccessKey": "{}"',
                "dbPassword: '{}'",
                "DB_PASS='{}'",
                "API_TOKEN={}",
                "PRIVATE_KEY={}",
                "JWT_SECRET_KEY={}  # of production",
                "https://x.de/v1?access_token={}&q=1",
                "mysql --password={} db",
                "<password>{}</password>",
                "curl -s -u admin:{} https://x.de",
                "//registry.npmjs.org/:_authToken={}",
                'curl -H "x-api-key: {}"',
                "{{'authorization': 'bearer {}'}}",
                "Authorization: token {}",
            )
        ),
        ("API_KEY=live_" + letters(24), ["live_" + letters(24)]),
        ("SECRET_KEY = 'a1$(k9%(x&m3p7q'", ["a1$(k9%(x&m3p7q"]),
        ("Authorization: Basic YWRtaW46VHIwdWI0ZG9yJjN4eXo=", ["YWRtaW46VHIwdWI0ZG9yJjN4eXo="]),
        ("Endpoint=sb://a/;SharedAccessKey=" + letters(43) + "=", [letters(43) + "="]),
        ("?sv=1&sig=" + letters(43) + "%3D", [letters(43) + "%3D"]),
        *(
            (f"the key {key}", [key])
            for key in (
                "xapp-1-A012-345-" + letters(64),
                "gldt-" + letters(20),
                "glpat-" + letters(27) + ".01." + letters(9, "0a1b2"),
                "whsec_" + letters(32),
                "sk-" + letters(32, "0a1b2c"),
                "gsk_" + letters(52),
                "GOCSPX-" + letters(28),
                "hvs." + letters(90),
                "dckr_pat_" + letters(27),
                "api_org_" + letters(34),
                "pypi-AgENdGVzdC5weXBpLm9yZ" + letters(60),
                "https://hooks.slack.com/workflows/T1/A2/3/" + letters(24),
            )
        ),
        ("icon@2x.png, 2x@web.de, version 1.2.3.4 of 8.8.4.4", ["2x@web.de", "8.8.4.4"]),
        ("ip.addr==8.8.4.4 and `host: 8.8.8.8`", ["8.8.4.4", "8.8.8.8"]),
        (
            "PuTTY-User-Key-File-2: ssh-rsa\nPrivate-Lines: 1\nAAAA\nPrivate-MAC: 0a1b",
            ["PuTTY-User-Key-File-2: ssh-rsa\nPrivate-Lines: 1\nAAAA\nPrivate-MAC: 0a1b"],
        ),
        ("database:\n  password: tr0ub4dor3\n  user: a", ["tr0ub4dor3"]),
        (
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk",
            ["-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk"],
        ),
    ],
)
def test_variants_are_found(text, expected):
    assert [value for _, value in found(text)] == expected
    assert {span.rule for span in search.spans(text, BOTH)} <= set(search.suspects([text])[0])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
@settings(max_examples=20)
@given(st.data())
def test_a_hint_matches_whatever_its_pattern_does(rule, data):
    text = data.draw(st.from_regex(rule.pattern))
    assert rule in search.suspects([text]).get(0, [])


def test_of_two_that_overlap_one_stays():
    token = VALUES["github-token"]
    assert found(f"https://bot:{token}@github.com") == [("github-token", token)]
    assert found(f"api_key = '{token}'") == [("github-token", token)]


def test_each_of_several_ibans_in_a_row_is_one():
    ibans = (
        "ES91 2100 0418 4502 0005 1332",
        "BE71 0961 2345 6769",
        "AT61 1904 3002 3457 3201",
        "DE89 3704 0044 0532 0130 00",
    )
    assert found(" ".join(ibans)) == [("iban", iban) for iban in ibans]


def test_one_kind_alone():
    text = f"{VALUES['e-mail-address']} {VALUES['github-token']}"
    assert search.redacted(text, ("secret",)) == f"{VALUES['e-mail-address']} [github-token]"
    assert search.redacted(text, ("personal",)) == f"[e-mail-address] {VALUES['github-token']}"
    assert search.redacted(text, ()) == text


def test_check_digits_by_the_standards_examples():
    assert is_iban("NO9386011117947")
    assert is_iban("MT84 MALT 0110 0001 2345 MTLC AST0 01S")
    assert not is_iban("NO9386011117948")
    assert is_card_number("6011 0009 9013 9424")
    assert not is_card_number("6011 0009 9013 9425")
    assert not is_card_number("0000 0000 0000 0000")


def test_json_stays_json_whatever_is_redacted():
    arguments = {
        "to": ["anna@web.de"],
        "anna@web.de": True,
        "card": 4111111111111111,
        "n": 3,
        "x": 0.5,
        "note": 'a "b"',
    }
    redacted = json.loads(search.redacted_json(json.dumps(arguments), BOTH))
    assert redacted == {
        "to": ["[e-mail-address]"], "[e-mail-address]": True, "card": "[card-number]", "n": 3, "x": 0.5, "note": 'a "b"',
    }  # fmt: skip
    untouched = '{"a":1,  "b": "c"}'
    assert search.redacted_json(untouched, BOTH) is untouched
    assert search.redacted_json("no json: anna@web.de", BOTH) == "no json: [e-mail-address]"


def test_weights_follow_their_characters():
    text = "to anna@web.de now"
    weights = [float(number) for number in range(len(text))]
    places = search.spans(text, BOTH)
    redacted, kept = search.replaced(text, places), search.redacted_weights(weights, places)
    assert len(kept) == len(redacted)
    assert kept[:3] == weights[:3]
    assert set(kept[3:-4]) == {3.0}
    assert kept[-4:] == weights[-4:]


def test_names_that_differ_stay_different():
    one, other = (search.distinct_redacted(f"chats: {name}@web.de", BOTH) for name in ("anna", "bert"))
    assert one != other
    assert one == search.distinct_redacted("chats: anna@web.de", BOTH)
    assert "anna" not in one


@given(st.lists(st.one_of(st.sampled_from(sorted(VALUES.values())), st.text(max_size=30)), max_size=5))
def test_redaction_is_the_same_again_and_leaves_nothing_that_a_hint_missed(parts):
    text = " ".join(parts)
    redacted = search.redacted(text, BOTH)
    assert search.redacted(redacted, BOTH) == redacted
    if search.spans(text, BOTH):
        assert {span.rule for span in search.spans(text, BOTH)} <= set(search.suspects([text])[0])


@pytest.mark.parametrize(
    "text",
    ["a." * 50_000, "+1" * 50_000, "@a" * 50_000, "1." * 50_000, "ab:" * 30_000, "://a:" * 20_000, "-----BEGIN PRIVATE KEY-----" * 4_000,
     "aws " * 25_000, "password='" * 10_000, "4" * 100_000, "eyJ" * 30_000, "A1" * 50_000, "a@a-" * 25_000,
     "curl " * 20_000, "curl -u a" * 10_000, "machine a login b " * 5_000, "PuTTY-User-Key-File-2" * 5_000, "a_token=" * 12_000, "bearer " * 15_000,
     ";password=" * 10_000, "passPass" * 12_000, "a:1234:" * 15_000, "://a:b/" * 15_000, "://a:" + "b/" * 50_000, "_" * 100_000, "version 1.2.3.4 " * 6_000],
    ids=lambda text: text[:10],
)  # fmt: skip
def test_no_text_takes_long(text):
    start = time.process_time()
    search.spans(text, BOTH)
    assert time.process_time() - start < 2  # 0.05 s; a quadratic pattern takes minutes
