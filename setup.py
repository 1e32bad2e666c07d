"""Packaging of rlspo: metadata, dependency ranges and the data folders that travel inside the wheel."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
#: Simulators, video and trackers; all else that the library and its command line need is in the base.
EXTRAS = {
    "mujoco": ["mujoco>=3.2"],
    "atari": ["ale-py>=0.11.1,<0.13", "opencv-python-headless>=4.8"],
    "video": ["gymnasium[classic-control]", "imageio>=2.34", "imageio-ffmpeg>=0.5"],
    "track": ["wandb>=0.18"],
    "tsne": ["scikit-learn>=1.4"],
    "onnx": ["onnx>=1.17", "onnxruntime>=1.20", "onnxscript>=0.5.4"],
}
#: Only to compare ours with, in tests and benchmarks.
PEERS = ["rliable>=1.2"]
DEVELOPMENT = [
    "codespell>=2.4",
    "coverage>=7.4",
    "furo>=2024.1",
    "hypothesis>=6.100",
    "import-linter>=2.0",
    "mypy>=1.10",
    "packaging>=24",
    "myst-parser>=3",
    "pytest>=8",
    "pytest-cov>=5",
    "pytest-xdist>=3.5",
    "ruff>=0.5",
    "sphinx>=7.2",
    "types-PyYAML>=6",
]

setup(
    name="rlspo",
    version="0.1.0",
    description="Robust, planning and post-decision reinforcement learning on top of stable-baselines3",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["rlspo", "rlspo.*"]),
        "rlspo.hyperparams",
        "rlspo.instances",
        "rlspo.zoo.agents",
    ],
    # Data lie at the top of the checkout, and inside the wheel in `rlspo/hyperparams/`, `rlspo/instances/` and
    # `rlspo/zoo/agents/`.
    package_dir={"rlspo.hyperparams": "hyperparams", "rlspo.instances": "envs", "rlspo.zoo.agents": "zoo/agents"},
    package_data={
        "rlspo": ["py.typed"],
        "rlspo.hyperparams": ["*.yml"],
        "rlspo.instances": ["lot_sizing/*.yml", "stori/*.yml"],
        "rlspo.zoo.agents": ["*/*/*.json", "*/*/*.safetensors", "*/*/*.csv"],
    },
    install_requires=[
        "annotated-types>=0.6",
        "cmaes>=0.11",
        "filelock>=3.12,<5",
        "gymnasium>=1.1,<2",
        "matplotlib>=3.8",
        "numpy>=1.26,<3",
        "optuna>=4.2,<6",
        "pillow>=10.1",
        "pydantic>=2.6,<3",
        "PyYAML>=6",
        "rich>=13",
        "safetensors>=0.4.3",
        "sb3-contrib>=2.9,<3",
        "scipy>=1.11",
        "stable-baselines3>=2.9,<3",
        "tensorboard>=2.16",
        "torch>=2.13,<3",
        "tqdm>=4.66",
    ],
    extras_require={
        **EXTRAS,
        "all": sorted({requirement for group in EXTRAS.values() for requirement in group}),
        "dev": sorted({requirement for group in EXTRAS.values() for requirement in group} | {*DEVELOPMENT, *PEERS}),
    },
    entry_points={
        "console_scripts": ["rlspo=rlspo.zoo.cli:main"],
        "rlspo.agents": [
            "ppo=rlspo.ppo:PPO",
            "arpo=rlspo.arpo:ARPO",
            "barpo=rlspo.arpo:BARPO",
            "pdppo=rlspo.pdppo:PDPPO",
            "sac=rlspo.sac:SAC",
            "spo=rlspo.spo:SPO",
        ],
    },
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
