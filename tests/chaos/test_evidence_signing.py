"""Signatures: by a key in a file and by one in KMS, checked offline; and never in a region that the drill hurts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, padding, rsa
from evidence_kit import moto_aws, private_key_file, write_config

from kms_chaos.evidence import checking
from kms_chaos.evidence.signing import FileSigner, KmsSigner, SigningError, SigningRefusedError, fingerprint, signer
from kms_watchdog import aws
from kms_watchdog.config import Settings, load

pytestmark = pytest.mark.slow  # each makes keys

__all__ = ["moto_aws"]

SPECS = {
    "ECDSA_SHA_256": "ECC_NIST_P256",
    "ECDSA_SHA_384": "ECC_NIST_P384",
    "RSASSA_PKCS1_V1_5_SHA_512": "RSA_2048",
}


def in_kms(folder: Path, algorithm: str, regions: str = '"us-west-2"', key: str = "alias/evidence") -> Settings:
    return load(
        write_config(
            folder, f'signing = {{kind = "kms", key_id = "{key}", regions = [{regions}], algorithm = "{algorithm}"}}'
        )
    )


def make_key(settings: Settings, spec: str, usage: str, region: str = "us-west-2") -> str:
    kms = aws.client(settings, "kms", region)
    arn = str(kms.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["Arn"])
    kms.create_alias(AliasName="alias/evidence", TargetKeyId=arn)
    return arn


def test_a_key_in_a_file_signs(tmp_path: Path) -> None:
    """And its public half, and no other, confirms."""
    by, other = FileSigner(private_key_file(tmp_path)), FileSigner(private_key_file(tmp_path, bytes(32)))
    signed = by.sign(b"statement")

    mine, others = checking.load(by.public_key()), checking.load(other.public_key())

    assert signed.key == fingerprint(by.public_key())
    assert checking.is_by(mine, "ED25519", signed.signature, b"statement")
    assert not checking.is_by(mine, "ED25519", signed.signature, b"statement.")
    assert not checking.is_by(others, "ED25519", signed.signature, b"statement")


@pytest.mark.parametrize("algorithm", list(SPECS))
@pytest.mark.usefixtures("moto_aws")
def test_a_key_in_kms_signs(tmp_path: Path, algorithm: str) -> None:
    """Offline with the exported public key, and KMS itself says the same."""
    settings = in_kms(tmp_path, algorithm)
    arn = make_key(settings, SPECS[algorithm], "SIGN_VERIFY")
    by = signer(settings)
    assert isinstance(by, KmsSigner)

    signed = by.sign(b"statement")
    public = checking.load(by.public_key())

    assert signed.key == arn
    assert checking.is_by(public, algorithm, signed.signature, b"statement")
    assert not checking.is_by(public, algorithm, signed.signature, b"another")
    assert by.confirms(b"statement", signed.signature)
    assert not by.confirms(b"another", signed.signature)


def test_rsa_pss_is_checked_as_kms_makes_it() -> None:
    """With a salt as long as the digest (KMS Developer Guide, key spec reference); moto makes longer ones."""
    key, digest = rsa.generate_private_key(65537, 2048), hashes.SHA384()
    made = key.sign(b"statement", padding.PSS(padding.MGF1(digest), 48), digest)

    assert checking.is_by(key.public_key(), "RSASSA_PSS_SHA_384", made, b"statement")
    assert not checking.is_by(key.public_key(), "RSASSA_PSS_SHA_256", made, b"statement")
    assert not checking.is_by(key.public_key(), "RSASSA_PKCS1_V1_5_SHA_384", made, b"statement")


@pytest.mark.usefixtures("moto_aws")
def test_an_hmac_is_kmss_own(tmp_path: Path) -> None:
    """No public key confirms it; KMS does."""
    settings = in_kms(tmp_path, "HMAC_SHA_256")
    make_key(settings, "HMAC_256", "GENERATE_VERIFY_MAC")
    by = signer(settings)
    assert isinstance(by, KmsSigner)

    signed = by.sign(b"statement")

    assert by.confirms(b"statement", signed.signature)
    assert not by.confirms(b"statement", bytes(32))
    with pytest.raises(SigningError, match="no public key"):
        by.public_key()


@pytest.mark.usefixtures("moto_aws")
def test_a_hurt_region_never_signs(tmp_path: Path) -> None:
    """The next one does; and when the drill hurts them all it is refused before anything is touched."""
    settings = in_kms(tmp_path, "ECDSA_SHA_256", '"us-east-1", "us-west-2"')
    make_key(settings, "ECC_NIST_P256", "SIGN_VERIFY", "us-east-1")
    west = make_key(settings, "ECC_NIST_P256", "SIGN_VERIFY", "us-west-2")

    spared = signer(settings, hurt=("us-east-1",))

    assert spared is not None
    assert spared.sign(b"x").key == west
    assert spared.about()["regions"] == ["us-west-2"]
    with pytest.raises(SigningRefusedError, match="hurts us-east-1, us-west-2"):
        signer(settings, hurt=("us-west-2", "us-east-1", "eu-west-1"))


@pytest.mark.usefixtures("moto_aws")
def test_the_next_region_signs_when_one_does_not_answer(tmp_path: Path) -> None:
    """A key that is there in one region alone."""
    settings = in_kms(tmp_path, "ECDSA_SHA_256", '"us-east-1", "us-west-2"')
    west = make_key(settings, "ECC_NIST_P256", "SIGN_VERIFY", "us-west-2")
    by = signer(settings)
    assert by is not None

    assert by.sign(b"x").key == west
    with pytest.raises(SigningError, match="us-west-2 does not sign"):
        KmsSigner(settings, settings.drills.evidence.signing.model_copy(update={"key_id": "alias/no"})).sign(b"x")  # type: ignore[union-attr]


@pytest.mark.usefixtures("moto_aws")
def test_what_kms_would_refuse_is_not_sent(tmp_path: Path) -> None:
    """Sign takes 4096 bytes."""
    by = signer(in_kms(tmp_path, "ECDSA_SHA_256"))
    assert by is not None

    with pytest.raises(SigningError, match="4096"):
        by.sign(bytes(4097))


@pytest.mark.usefixtures("moto_aws")
def test_an_algorithm_counts_only_with_its_own_kind_of_key(tmp_path: Path) -> None:
    """`signature.json` names the algorithm, and whoever edits it must gain nothing."""
    settings = in_kms(tmp_path, "ECDSA_SHA_256")
    make_key(settings, "ECC_NIST_P256", "SIGN_VERIFY")
    by, file = signer(settings), FileSigner(private_key_file(tmp_path))
    assert by is not None
    signed, key = by.sign(b"x").signature, checking.load(by.public_key())

    for algorithm in ("ED25519", "RSASSA_PSS_SHA_256", "HMAC_SHA_256", "ECDSA_SHA_384", "ECDSA_SHA_1", "none", ""):
        assert not checking.is_by(key, algorithm, signed, b"x")
    public, own = checking.load(file.public_key()), file.sign(b"x").signature
    assert checking.is_by(public, "ED25519", own, b"x")
    assert not checking.is_by(public, "ECDSA_SHA_256", own, b"x")


def pem_of(key: Any) -> bytes:
    return bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    """With the file's name, and nothing of its content."""
    other, junk = tmp_path / "dsa.pem", tmp_path / "junk.pem"
    stranger = dsa.generate_private_key(2048)
    other.write_bytes(pem_of(stranger))
    junk.write_text("secret-looking junk")

    for path, says in ((other, "not an Ed25519 key"), (junk, "not a PEM"), (tmp_path / "absent", "No such file")):
        with pytest.raises(SigningRefusedError, match=says) as refused:
            FileSigner(path)
        assert "secret-looking" not in str(refused.value)
    with pytest.raises(checking.PublicKeyError):
        checking.load(b"junk")
    public = stranger.public_key()
    with pytest.raises(checking.PublicKeyError, match="not an Ed25519"):
        checking.load(public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))


def test_without_a_key_nothing_is_signed(tmp_path: Path) -> None:
    """The default."""
    assert signer(load(write_config(tmp_path))) is None
