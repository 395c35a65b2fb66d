"""The report on the environment and the installation of detectron2."""

import importlib
import subprocess
import sys

import pytest

from transavs import env
from transavs.tools import install_detectron2


@pytest.fixture
def without(monkeypatch):
    """A function that makes modules unimportable, or fail with a given error."""
    broken = {}
    original = importlib.import_module

    def import_module(name, package=None):
        if name in broken:
            raise broken[name]
        return original(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)

    def remove(name, error=None):
        broken[name] = error or ModuleNotFoundError(f"No module named {name!r}", name=name)

    return remove


class TestReport:
    def test_everything_is_here(self, capsys):
        assert env.main([]) == 0
        text = capsys.readouterr().out
        assert "Everything that is required is here" in text
        for name in ("torch", "detectron2", "timm", "VGGish weights", "data root", "GPU available"):
            assert name in text

    def test_a_missing_package_is_named_with_its_remedy(self, without, capsys):
        without("timm")
        assert env.main([]) == 1
        text = capsys.readouterr().out
        assert "MISSING  timm" in text and "pip install timm" in text
        assert "Missing and required: timm." in text

    def test_a_broken_package_is_missing_with_its_error(self, without, capsys):
        without("cv2", ImportError("libGL.so.1: cannot open shared object file"))
        without("torchvision", ModuleNotFoundError("No module named 'torch'", name="torch"))
        assert env.main([]) == 1
        text = capsys.readouterr().out
        assert "cannot be imported (libGL.so.1: cannot open shared object file)" in text
        assert "cannot be imported (No module named 'torch')" in text

    def test_no_arguments(self, capsys):
        assert env.main(["--all"]) == 2
        assert "usage" in capsys.readouterr().err

    def test_as_a_module(self):
        run = subprocess.run(
            [sys.executable, "-m", "transavs.env", "surplus"], capture_output=True, text=True
        )
        assert run.returncode == 2, run.stderr

    def test_data_sets(self, monkeypatch, tmp_path):
        monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
        (tmp_path / "Multi-sources" / "ms3_data").mkdir(parents=True)
        status = {finding.name: finding.status for finding in env.collect_findings()}
        assert status["data root"] == "found"
        assert status["AVSBench MS3"] == "found"
        assert status["AVSBench S4"] == status["demo MS3"] == "absent"

    def test_no_data_root(self, monkeypatch, tmp_path):
        monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "none"))
        (finding,) = (f for f in env.collect_findings() if f.name == "data root")
        assert finding.status == "absent"
        assert "DETECTRON2_DATASETS" in finding.detail

    def test_vggish_weights(self, monkeypatch, tmp_path):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        assert env._vggish_weights().status == "absent"
        (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
        (tmp_path / "hub" / "checkpoints" / env.VGGISH_FILE).touch()
        assert env._vggish_weights().status == "found"

    def test_what_is_optional(self, monkeypatch):
        monkeypatch.setattr(env.shutil, "which", lambda command: None)
        monkeypatch.setattr(env.importlib.util, "find_spec", lambda name: None)
        monkeypatch.setattr(env, "REQUIRED_PACKAGES", {})
        findings = {finding.name: finding for finding in env.collect_findings()}
        names = [*env.EXTRAS, "Debian packages"]
        assert {findings[name].status for name in names} == {"absent"}
        assert "no apt-get, dpkg-deb" in findings["Debian packages"].detail
        assert "pip install av (extra 'video')" in findings["av"].detail

    def test_without_detectron2(self, without, capsys):
        without("detectron2.utils.collect_env", ImportError("no symbol"))
        assert env.main([]) == 0
        assert "no symbol" in capsys.readouterr().out


class TestInstallDetectron2:
    @pytest.fixture
    def pip(self, monkeypatch):
        """Records calls of pip instead of running it."""
        calls = []

        def pip_install(*arguments):
            for argument in arguments:
                if argument.startswith("--requirement="):
                    with open(argument.partition("=")[2], encoding="utf-8") as file:
                        calls.append(file.read())
            calls.append(arguments)

        monkeypatch.setattr(install_detectron2, "_pip_install", pip_install)
        return calls

    def test_what_is_there_stays(self, pip, capsys):
        assert install_detectron2.main([]) == 0
        assert not pip
        assert "detectron2 0." in capsys.readouterr().out

    def test_a_missing_one_is_installed_by_hash(self, pip, monkeypatch, capsys):
        probes = iter([(None, ""), ("0.7.2 at somewhere", "")])
        monkeypatch.setattr(install_detectron2, "find_detectron2", lambda: next(probes))
        assert install_detectron2.main([]) == 0
        requirements, arguments = pip[:2]
        assert requirements.startswith("sal-detectron2==0.7.2 --hash=sha256:491af0c7")
        assert {"--require-hashes", "--no-deps", "--python-version=3.10"} <= set(arguments)
        assert len(pip) == 2  # its own requirements are here already

    def test_torch_comes_first(self, pip, monkeypatch, capsys):
        monkeypatch.setattr(install_detectron2, "find_detectron2", lambda: (None, ""))
        monkeypatch.setattr(install_detectron2.importlib.util, "find_spec", lambda name: None)
        assert install_detectron2.main([]) == 1
        assert not pip
        assert "install torch and torchvision first" in capsys.readouterr().err

    def test_missing_requirements_come_with_it(self, pip, monkeypatch):
        monkeypatch.setattr(install_detectron2, "_is_installed", lambda name: name != "yacs")
        assert install_detectron2.missing_requirements() == ["yacs>=0.1.8"]
        install_detectron2.install()
        assert pip[-1] == ("yacs>=0.1.8",)

    def test_the_opencv_with_windows_will_do(self, monkeypatch):
        monkeypatch.setattr(
            install_detectron2, "_is_installed", lambda name: name != "opencv-python-headless"
        )
        assert install_detectron2.missing_requirements() == []

    def test_a_broken_one_is_reported_and_left_alone(self, pip, monkeypatch, capsys):
        monkeypatch.setattr(
            install_detectron2, "find_detectron2", lambda: (None, "ImportError: no symbol")
        )
        assert install_detectron2.main([]) == 1
        assert not pip
        assert "cannot be imported: ImportError: no symbol" in capsys.readouterr().err

    def test_a_failed_installation(self, monkeypatch, capsys):
        monkeypatch.setattr(install_detectron2, "find_detectron2", lambda: (None, ""))
        monkeypatch.setattr(
            install_detectron2.subprocess,
            "run",
            lambda *_, **__: (_ for _ in ()).throw(subprocess.CalledProcessError(1, "pip")),
        )
        assert install_detectron2.main([]) == 1
        assert "the installation failed" in capsys.readouterr().err

    def test_a_hanging_download_is_tried_once_more(self, monkeypatch):
        calls = []

        def run(command, **kwargs):
            calls.append(command)
            if len(calls) == 1:
                raise subprocess.TimeoutExpired(command, kwargs["timeout"])

        monkeypatch.setattr(install_detectron2.subprocess, "run", run)
        install_detectron2._pip_install("something")
        assert len(calls) == 2
        assert calls[0] == calls[1]

    @pytest.mark.parametrize(
        ("stderr", "expected"),
        [
            ("Traceback\nModuleNotFoundError: No module named 'detectron2'\n", (None, "")),
            ("ImportError: undefined symbol", (None, "ImportError: undefined symbol")),
        ],
    )
    def test_probe(self, monkeypatch, stderr, expected):
        result = subprocess.CompletedProcess([], 1, stdout="", stderr=stderr)
        monkeypatch.setattr(install_detectron2.subprocess, "run", lambda *_, **__: result)
        assert install_detectron2.find_detectron2() == expected

    def test_is_installed(self):
        assert install_detectron2._is_installed("torch")
        assert not install_detectron2._is_installed("no-such-distribution")
