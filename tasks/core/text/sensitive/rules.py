"""Rules that find secrets and personal data: a pattern each, and a check if the pattern is not specific enough.

The patterns of keys are those that the issuers document or publish for secret scanning. Names of persons, postal addresses, and phone numbers
without a country code are not found, because no pattern distinguishes them from other words and digits.
"""

import base64
import binascii
import ipaddress
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

Kind = Literal["secret", "personal"]

DUMMIES = re.compile(
    r"(?i)^(?:.*(?:example|placeholder|changeme|your[-_ ]?|dummy|redacted|xxx|\*\*\*|\.\.\.|<|>|\$\{|\{\{|%\(\w+\)|\$\(\w+(?:\)|$)).*"
    r"|\[[\w-]+\]|pass(?:word|wd)?|secret|token|(.)\1*|\d{1,5})$"
)
"""Values that documentation writes in place of a secret, and small numbers."""
WORDS = re.compile(r"(?i)^[a-z_]+$")
"""Values that are words if a person chose them. Random keys may have no digit either, and those of Hugging Face never have one."""
EXAMPLE_DOMAINS = re.compile(r"(?i)[@.](?:example\.(?:com|org|net|edu)|[\w.-]*\.(?:example|test|invalid|localhost))$")
"""Domains that RFC 2606 reserves for examples."""
NO_PERSON = re.compile(
    r"(?i)^(?:git|hg|no-?reply|do-?not-?reply)@"
    r"|\.(?:avif|bmp|css|dll|exe|gif|gz|html|ico|jar|jpe?g|jsx?|json|mjs|pdf|png|svg|tgz|tiff?|tsx|webp|whl|ya?ml)$"
)
"""Accounts of repository servers, accounts that receive no mail, and file names such as `icon@2x.png`, whose endings are not domains."""
BEFORE_VERSION = re.compile(
    r"""(?ix)(?: (?:version|\b(?:ver\.?|release|section|oid)) ['"]? \ ? [:=(>]? \ ? ['"]? | (?<!addr)(?<!src)(?<!dst)(?<!host)(?<!ip) [=~<>]= \ ? | § \ ? ) $"""
)
"""Text before four numbers that are a version, a section or an object identifier, not an IP address."""
NEAR = 20
"""Number of characters before a match that are searched for a sign that it is something else."""
MIXED = 16
"""Length from which on letters and digits without `_` or `.` are not taken for a name in a program."""


@dataclass(frozen=True)
class Rule:
    """A rule of one kind of secret or personal data."""

    name: str
    kind: Kind
    pattern: re.Pattern[str]
    """The pattern. Its group `value`, if there is one, is the sensitive part."""
    hint: str
    """A pattern without look-around that matches wherever `pattern` does. It skips thousands of texts per millisecond."""
    check: Callable[[str], bool] = lambda value: True
    cut: Callable[[str], str] = lambda match: match
    """Returns the part of a match that is the value, if other text may follow it."""
    unless_after: re.Pattern[str] | None = None
    """Matches the end of the text before a match that is something else."""


def is_issued(value: str) -> bool:
    """Return False for a placeholder in place of a key with a fixed pattern."""
    return not DUMMIES.match(value)


def is_real(value: str) -> bool:
    """Return False for a placeholder in place of a secret, and for words."""
    return is_issued(value) and not WORDS.match(value)


def is_strong(value: str) -> bool:
    """Return True for a value that could be a password: it has letters and digits and is not a placeholder."""
    return is_real(value) and any(map(str.isdigit, value)) and any(map(str.isalpha, value))


def is_no_name(value: str) -> bool:
    """Return True for a value that could be a password and is not a name in a program, such as `other_password1` or `settings.key2`."""
    parts = re.split(r"[_.]", value)
    return is_strong(value) and (len(parts) == 1 or any(len(part) >= MIXED and is_strong(part) for part in parts))


def is_of_address(value: str) -> bool:
    """Return True for a value that could be the password of an address; with a `/` in it, one that is no path."""
    return is_real(value) and ("/" not in value or is_strong(value))


def is_jwt(value: str) -> bool:
    """Return True if the first part of a JSON Web Token is a header with an algorithm (RFC 7519, section 5)."""
    head = value.partition(".")[0]
    try:
        return "alg" in json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (binascii.Error, ValueError, TypeError):
        return False


def is_address(value: str) -> bool:
    """Return True for an e-mail address that may belong to a person: not of an example domain or a service, and not a file name."""
    return not EXAMPLE_DOMAINS.search(value) and not NO_PERSON.search(value)


def is_phone_number(value: str) -> bool:
    """Return True for a number that is valid in the numbering plan of its country."""
    import phonenumbers

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(" ".join(value.split())))
    except phonenumbers.NumberParseException:
        return False


def is_iban(value: str) -> bool:
    """Return True if the check digits hold (ISO 13616: the number, its letters as 10 to 35, is 1 modulo 97)."""
    compact = "".join(value.split())
    digits = "".join(str(int(sign, 36)) for sign in compact[4:] + compact[:4])
    return 15 <= len(compact) <= 34 and int(digits) % 97 == 1


def iban_in(match: str) -> str:
    """Return the longest prefix of a match that is an IBAN, because a word in capitals may follow it.

    If there is none, return the first group of characters, because an IBAN may begin after it.
    """
    groups = list(re.finditer(r"\S+", match))
    beginnings = (match[: group.end()] for group in reversed(groups))
    return next(filter(is_iban, beginnings), groups[0][0])


def is_card_number(value: str) -> bool:
    """Return True for 13 to 19 digits of a card network whose check digit holds (ISO/IEC 7812-1, Luhn)."""
    digits = [int(sign) for sign in value if sign.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and digits[0] in (3, 4, 5, 6) and (sum(doubled) + sum(digits[-1::-2])) % 10 == 0


def card_number_in(match: str) -> str:
    """Return the longest prefix of a match that is a card number of groups of at least four digits, because an expiry date may follow it.

    If there is none, return the first group if a group of at least four digits follows, with which a card number may begin, else the whole match.
    """
    groups = list(re.finditer("[0-9]+", match))
    beginnings = [match[: group.end()] for group in takewhile(lambda group: len(group[0]) >= 4, groups)]
    may_begin_later = len(groups) > 1 and len(groups[1][0]) >= 4
    return next(filter(is_card_number, [match, *reversed(beginnings)]), groups[0][0] if may_begin_later else match)


def is_public(value: str) -> bool:
    """Return True for a public IP address, neither private nor reserved."""
    try:
        return ipaddress.ip_address(value).is_global
    except ValueError:
        return False


def _secret(name: str, pattern: str, hint: str, check: Callable[[str], bool] = is_issued) -> Rule:
    return Rule(name, "secret", re.compile(pattern), hint, check)


def _personal(
    name: str,
    pattern: str,
    hint: str,
    check: Callable[[str], bool],
    cut: Callable[[str], str] = lambda match: match,
    unless_after: re.Pattern[str] | None = None,
) -> Rule:
    return Rule(name, "personal", re.compile(pattern), hint, check, cut, unless_after)


WORDS_OF_NAMES = "password|passwd|passphrase|pwd|secret(?:[_-]?key)?(?:[_-]?base)?|(?:api|access|private|signing|encryption)[_-]?key|(?:access|auth)[_-]?token"
NAMES = rf"(?:{WORDS_OF_NAMES}|(?<=_)pass|token(?=\W{{1,6}}[^\s'\"]{{20}}))"
"""Names of secret values. The name `token` needs a long value, because it may be a word of a text."""
HINT_NAMES = f"(?:{WORDS_OF_NAMES}|pass|token)"
BEGINNING = "(?:(?<![A-Za-z])|(?-i:(?<=[a-z])(?=[A-Z])))"
"""The start of a name, or of the last word in a name such as `dbPassword`."""
UNBROKEN = "\u00a0\u202f"
"""No-break spaces, which word processors and PDFs have between the groups of a number."""
SPACES = r"[^\S\x1c-\x1f]*"
"""White space for hints, which Rust searches: Python's white space has four more separators."""
SERVICES = (
    ("sk-or-v1-", "[0-9a-f]{64}"),  # OpenRouter
    ("sk-[0-9a-f]{8}", "[0-9a-f]{24}"),  # DeepSeek and others
    ("gsk_", "[A-Za-z0-9]{52}"),  # Groq
    ("xai-", "[A-Za-z0-9]{80}"),
    ("r8_[A-Za-z0-9]{8}", "[A-Za-z0-9]{29}"),  # Replicate
    ("pplx-", "[A-Za-z0-9]{48}"),  # Perplexity
    ("lsv2_", "(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}"),  # LangSmith
    ("dckr_[op]at_", r"[\w-]{27,}"),
    ("rubygems_", "[0-9a-f]{48}"),
    ("sq0(?:atp|csp)-", r"[\w-]{22,}"),  # Square
    ("shp(?:at|ca|pa|ss)_", "[0-9a-fA-F]{32}"),  # Shopify
    ("key-[0-9a-f]{8}", "[0-9a-f]{24}"),  # Mailgun
    ("SK[0-9a-f]{8}", "[0-9a-f]{24}"),  # Twilio
    ("GOCSPX-", r"[\w-]{28}"),  # Google client secret
    (r"ya29\.", r"[\w-]{30,}"),  # Google access token
    ("dapi[0-9a-f]{8}", "[0-9a-f]{24}"),  # Databricks
    (r"hv[sb]\.", r"[\w-]{24,}"),  # Vault
    ("do[opr]_v1_", "[0-9a-f]{64}"),  # DigitalOcean
    ("NRAK-", "[A-Z0-9]{27}"),  # New Relic
    ("glsa_", "[A-Za-z0-9]{32}_[0-9a-f]{8}"),  # Grafana
    ("ATATT3", r"[\w-]{100,}(?:=[0-9A-F]{8})?"),  # Atlassian
    ("lin_api_", "[A-Za-z0-9]{40}"),  # Linear
    ("ntn_", "[A-Za-z0-9]{40,}"),  # Notion
    ("figd_", r"[\w-]{40,}"),  # Figma
    ("PMAK-", "[0-9a-f]{24}-[0-9a-f]{34}"),  # Postman
    ("sntry[su]_", "[A-Za-z0-9+/_=]{60,}"),  # Sentry
    ("sbp_", "[0-9a-f]{40}"),  # Supabase
    ("HRKU-", r"[\w-]{36,}"),  # Heroku
    ("AGE-SECRET-KEY-1", "[A-Z0-9]{58}"),
)
"""Prefixes of the keys of other services, and the patterns of the rest."""
RULES = (
    _secret(
        "private-key",
        r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|\Z)"
        r"|PuTTY-User-Key-File-[0-9](?s:.*?)(?:Private-MAC: ?[0-9a-f]+|\Z)",
        "PRIVATE KEY|PuTTY-User-Key-File",
        lambda value: True,
    ),  # RFC 7468, OpenSSH, OpenPGP, PuTTY
    _secret("aws-access-key", r"\b(?:AKIA|ASIA)[A-Z2-7]{16}\b", "A[KS]IA[A-Z2-7]{16}"),
    _secret(
        "aws-secret-key",
        r"(?i)aws.{0,20}(?:secret|key).{0,20}?['\"=: ](?P<value>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
        r"(?i)aws.{0,20}(?:secret|key)",
        is_real,
    ),
    _secret("github-token", r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{82})\b", "gh[pousr]_|github_pat_"),
    _secret(
        "gitlab-token",
        r"\bgl(?:pat|dt|rt|ptt|cbt|ft|imt|agent|oas|soat|ffct)-[\w-]{20,}(?:\.\w{2}\.[a-z0-9]{9})?",
        "gl(?:pat|dt|rt|ptt|cbt|ft|imt|agent|oas|soat|ffct)-",
    ),
    _secret("slack-token", r"\b(?:xox[abeoprs]|xapp-[0-9])-[A-Za-z0-9-]{10,}", "xox[abeoprs]-|xapp-[0-9]-"),
    _secret(
        "slack-webhook", r"https://hooks\.slack\.com/(?:services|workflows|triggers)/T\w+(?:/\w+){2,}", r"hooks\.slack\.com"
    ),
    _secret(
        "webhook",
        r"https://(?:\w+\.)?discord(?:app)?\.com/api/webhooks/[0-9]+/[\w-]{60,}"
        r"|https://[\w-]+\.webhook\.office\.com/webhookb2/[\w@/-]{60,}",
        r"discord(?:app)?\.com/api/webhooks/|webhook\.office\.com/",
    ),
    _secret("stripe-key", r"\b(?:[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/]{32,})", "[rs]k_(?:live|test)_|whsec_"),
    _secret("google-api-key", r"\bAIza[\w-]{35}(?![\w-])", "AIza"),
    _secret("anthropic-key", r"\bsk-ant-[\w-]{20,}", "sk-ant-"),
    _secret("openai-key", r"\bsk-(?:[A-Za-z0-9]{48}\b|(?:proj|svcacct|admin)-[\w-]{40,})", "sk-[A-Za-z0-9]"),
    _secret("hugging-face-token", r"\b(?:hf|api_org)_[A-Za-z0-9]{34}\b", "(?:hf|api_org)_[A-Za-z0-9]{34}"),
    _secret("npm-token", r"\bnpm_[A-Za-z0-9]{36}\b", "npm_[A-Za-z0-9]{36}"),
    _secret("pypi-token", r"\bpypi-Ag(?:EIcHlwaS5vcmc|ENdGVzdC5weXBpLm9yZ)[\w-]{50,}", "pypi-AgE"),
    _secret("sendgrid-key", r"\bSG\.[\w-]{22}\.[\w-]{43}(?![\w-])", r"SG\."),
    _secret("telegram-token", r"\b[0-9]{8,10}:AA[\w-]{33}(?![\w-])", "[0-9]:AA"),
    _secret(
        "azure-storage-key",
        r"(?:AccountKey=|SharedAccessKey=|[?&]sig=)(?P<value>[A-Za-z0-9+/%]{43,100}={0,2})",
        "AccountKey=|SharedAccessKey=|[?&]sig=",
    ),  # of Azure storage and service bus, and the signature of a shared access
    _secret(
        "service-token",
        rf"\b(?:{'|'.join(beginning + rest for beginning, rest in SERVICES)})(?![A-Za-z0-9])",
        "|".join(beginning for beginning, _ in SERVICES),
    ),
    _secret("json-web-token", r"\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}", "eyJ", is_jwt),
    _secret(
        "url-password",
        r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@'\"<>]{0,100}:(?P<value>[^\s/:@'\"<>][^\s/:'\"<>]{2,199}"
        r"|(?![0-9]+[/?#])[^\s/:@'\"<>{}$]{1,99}/[^\s:'\"<>{}$]{1,99}(?=@[\w.-]+(?:[:/?#\s'\"<>,;)]|\Z)))@",
        "://[^ /]*:[^ ]+@",
        is_of_address,
    ),  # RFC 3986, section 3.2.1; a `/` has to be escaped, and often is not. What follows a port is none.
    _secret(
        "authorization",
        r"(?i)(?:\bbearer +|\bauthorization['\"`]? {0,3}[:=,] {0,3}['\"`]?(?:basic|token) +|\bx-api-key['\"`]? {0,3}[:=,] {0,3}['\"`]?)"
        r"(?P<value>[\w.~+/-]{16,}=*)",
        r"(?i)bearer +[\w.~+/-]{16}|authorization['\"`]? {0,3}[:=,] {0,3}['\"`]?(?:basic|token) |x-api-key",
        is_no_name,
    ),  # RFC 7617 and RFC 6750
    _secret(
        "password",
        rf"(?i){BEGINNING}{NAMES}['\"]?\]?(?:: ?str(?= ?=))?{SPACES}(?:=>|:=|[:=]){SPACES}['\"](?P<value>[^'\"\s]{{8,}})['\"]",
        rf"(?i){HINT_NAMES}['\"]?\]?(?:: ?str)?\s*(?:=>|:=|[:=])\s*['\"]",
        is_strong,
    ),
    _secret(
        "password-line",
        rf"(?im)^[ \t]*(?:export[ \t]+)?[A-Za-z0-9_-]*{NAMES}[ \t]*[:=][ \t]*(?P<value>[A-Za-z0-9!@$%^&*+/~?_.-]{{8,}}={{0,2}})[ \t]*(?:[ \t]#.*)?\r?$",
        f"(?i){HINT_NAMES}[ \t]*[:=][ \t]*[A-Za-z0-9!@$%^&*+/~?_.-]{{8}}",
        is_no_name,
    ),  # of .env, .ini and YAML files, without quotes; without brackets, which calls in programs have
    _secret(
        "password-parameter",
        rf"(?i)(?:(?:[;?&]{SPACES}|--){NAMES}=(?!=)|<{NAMES}>|:_authToken=|\bcurl [^\n]{{0,300}}?-(?:u|-user)[ =]['\"]?[^\s:'\"]{{1,100}}:)"
        r"(?P<value>[^\s;&'\"<>()\[\]{}]{8,200})(?=[\s;&'\"<]|\Z)",
        rf"(?i)(?:[;?&]\s*|--){HINT_NAMES}=|<{HINT_NAMES}>|:_authToken=|curl [^\n]{{0,300}}-(?:u|-user)[ =]",
        is_strong,
    ),  # in connection strings, addresses, command lines, XML and .npmrc
    _secret(
        "netrc-password",
        r"\bmachine[ \t]+\S{1,200}[ \t\r\n]+login[ \t]+\S{1,200}[ \t\r\n]+password[ \t]+(?P<value>\S{4,200})",
        r"machine[ \t]+\S+[ \t\r\n]+login",
        is_strong,
    ),
    _secret(
        "pgpass-line",
        r"(?m)^(?:\*|[A-Za-z0-9][\w.-]{0,252}|/[\w./-]{1,107}):(?:\*|[0-9]{4,5}):[^\s:]{1,64}:[^\s:]{1,64}:(?P<value>(?:[^\s:\\]|\\[:\\]){6,200})[ \t]*\r?$",
        r"(?m)[\w*]:(?:\*|[0-9]{4,5}):[^\s:]+:[^\s:]+:",
        is_strong,
    ),  # of ~/.pgpass: host, port, database, user and password
    _personal(
        "e-mail-address",
        r"(?<![\w.+-])[A-Za-z0-9_](?:[\w.+-]{0,62}[\w+-])?@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}(?![\w(@-])",
        r"[^\s@]@[A-Za-z0-9-]+\.[A-Za-z0-9-]",
        is_address,
    ),  # the common part of RFC 5322's addr-spec; `a@b.T(` is a product of matrices
    _personal(
        "phone-number",
        rf"(?<![\w+])\+[1-9](?:[ {UNBROKEN}().\-/]{{0,2}}[0-9]){{6,14}}(?![\w])",
        rf"\+[1-9][0-9 {UNBROKEN}().\-/]{{6}}",
        is_phone_number,
    ),  # E.164
    _personal(
        "iban",
        rf"\b[A-Z]{{2}}[0-9]{{2}}(?:[ {UNBROKEN}]?[A-Z0-9]{{4}}){{2,7}}(?:[ {UNBROKEN}]?[A-Z0-9]{{1,4}})?\b",
        f"[A-Z]{{2}}[0-9]{{2}}[ {UNBROKEN}]?[A-Z0-9]{{4}}",
        is_iban,
        iban_in,
    ),
    _personal(
        "card-number",
        rf"(?<![\w.-])[3-6](?:(?:[ -]?[0-9]){{12,18}}|(?:[{UNBROKEN}]?[0-9]){{12,18}})(?![\w-]|\.[0-9])",
        f"[3-6](?:(?:[ -]?[0-9]){{12}}|(?:[{UNBROKEN}]?[0-9]){{12}})",
        is_card_number,
        card_number_in,
    ),  # with one kind of spaces only: 3 500 000 with no-break spaces may follow other numbers in a row
    _personal(
        "ip-address",
        r"(?<![\w.-])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![\w-]|\.[0-9])|(?<![\w:.])(?:[0-9a-fA-F]{1,4}:){2,7}[0-9a-fA-F:]*[0-9a-fA-F]{1,4}(?![\w:])",
        r"(?:[0-9]{1,3}\.){3}[0-9]|(?:[0-9a-fA-F]{1,4}:){2}",
        is_public,
        unless_after=BEFORE_VERSION,
    ),
)  # fmt: skip
"""All rules. If two match at the same place, the earlier one wins."""
