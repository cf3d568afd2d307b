import hashlib
import json
import re
from pathlib import Path

import pytest
import yaml

from fedsynth.errors import StudyError
from fedsynth.privacy.statement import PrivacyStatement
from fedsynth.release.croissant import croissant
from fedsynth.release.documents import card, check_license, citation, license_text, readme
from fedsynth.release.licenses import LICENSES
from fedsynth.release.provenance import environment
from fedsynth.source_code import code_in_use
from fedsynth.study import Study
from fedsynth.synthesis.windows import SyntheticWindows, stream_of

HOSTILE = 'Sleep: "best"\n# and\nlicense: none <script>x</script> `rm`'


def with_title(study: Study, title: str) -> Study:
    return study.model_copy(update={"title": title})


def with_license(study: Study, name: str) -> Study:
    return study.model_copy(update={"release": study.release.model_copy(update={"license": name})})


def test_croissant_names_archive_and_table_by_their_digests_and_the_edf_files_by_pattern(pristine: Path) -> None:
    body = json.loads((pristine / "croissant.json").read_text())
    archive, edf, table = body["distribution"]

    assert body["conformsTo"] == ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
    for file, path in ((archive, "data/ml/windows.npz"), (table, "data/ml/windows.parquet")):
        assert file["contentUrl"] == path
        assert file["sha256"] == hashlib.sha256((pristine / path).read_bytes()).hexdigest()
    assert len(list(pristine.glob(edf["includes"]))) == 6
    assert body["license"] == LICENSES["CC0-1.0"][1]


def test_the_citation_is_yaml_whatever_the_title(study: Study) -> None:
    body = yaml.safe_load(citation(with_title(study, HOSTILE)))

    assert body["title"] == HOSTILE
    assert (body["cff-version"], body["type"], body["license"]) == ("1.2.0", "dataset", "CC0-1.0")
    assert body["authors"] == [{"name": "fedsynth rehearsal"}]


def test_a_title_cannot_add_lines_or_markup_to_the_readme(
    study: Study, statement: PrivacyStatement, windows: SyntheticWindows
) -> None:
    text = readme(study=with_title(study, HOSTILE), statement=statement, windows=stream_of(windows))
    front, page = text.removeprefix("---\n").split("\n---\n", 1)

    assert yaml.safe_load(front)["pretty_name"] == HOSTILE
    assert page.strip().splitlines()[0] == '# Sleep: "best" # and license: none scriptx/script rm'


def test_the_readme_names_labels_that_may_be_nobodys(
    study: Study, statement: PrivacyStatement, windows: SyntheticWindows
) -> None:
    plain = readme(study=study, statement=statement, windows=stream_of(windows))
    marked = readme(study=study, statement=statement, windows=stream_of(windows), doubtful=(study.labels.names[1],))

    assert "No evidence of anybody" not in plain
    assert f"**No evidence of anybody: `{study.labels.names[1]}`.**" in marked


@pytest.mark.parametrize("name", LICENSES)
def test_a_licence_is_named_and_linked(study: Study, statement: PrivacyStatement, name: str) -> None:
    digests = dict.fromkeys(("data/ml/windows.npz", "data/ml/windows.parquet"), "0" * 64)
    text = license_text(with_license(study, name))

    assert name in text
    assert re.search(r"https://creativecommons\.org/\S+/legalcode", text)
    assert croissant(study=with_license(study, name), statement=statement, digests=digests)["license"] in text
    assert f"license: {name.lower()}" in card(with_license(study, name))


def test_an_unknown_licence_is_refused(study: Study) -> None:
    with pytest.raises(StudyError, match=r"known here: CC0-1\.0, CC-BY-4\.0"):
        check_license(with_license(study, "GPL-3.0"))


def test_the_environment_is_versions_and_nothing_else() -> None:
    lines = environment().splitlines()

    assert lines[0].startswith("python==3.")
    assert all(re.fullmatch(r"[a-z-]+==[A-Za-z0-9.+_ -]+", line) for line in lines)


def test_the_codes_digest_is_the_same_twice() -> None:
    assert code_in_use() == code_in_use()
    assert re.fullmatch("[0-9a-f]{64}", code_in_use().digest)
