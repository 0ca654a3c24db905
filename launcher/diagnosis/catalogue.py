"""Every check of ``launch doctor``: what it looks at, what its findings mean, what fixes them.

The one place of these texts: lines take them from here, docs/doctor.md is generated from here.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check.

    Attributes:
        about: what it looks at.
        warning: what a warning means; empty: it never warns.
        failed: what a failure means; empty: it never fails.
        fix: what to do, with the finding's own words in braces.
    """

    name: str
    about: str
    warning: str = ""
    failed: str = ""
    fix: str = ""


_ALL = (
    # ---------------------------------------------------------------------------------- the target
    Check(
        name="target",
        about="The target of a run: the one that was asked for, or the one that `auto` picks, and why.",
        failed="`launch run` refuses this target here",
        fix="launch doctor --target cpu",
    ),
    Check(
        name="libraries",
        about="Whether the versions of the target's lock go together, by images/compatibility.toml.",
        failed="libraries of this lock are known to break each other",
        fix="correct the pins in images/manifest.toml, then launch image lock {target}",
    ),
    # ---------------------------------------------------------------------------------- the engine
    Check(
        name="engine",
        about="The container engine that the docker command uses: whether it answers, and its version.",
        warning="runs take place without a container, in an environment from the same lock",
        failed="a container was asked for, and there is none to be had",
        fix="sudo systemctl start docker",
    ),
    Check(
        name="engine.storage",
        about="The engine's storage driver, and whether containerd keeps its images.",
        warning="images work; building one twice does not give the same digest",
        fix='"features": {{"containerd-snapshotter": true}} in /etc/docker/daemon.json; restart the engine',
    ),
    Check(
        name="engine.builder",
        about="docker buildx, with BuildKit, which builds the images; engine 23 or newer.",
        warning="images that are here run; none can be built",
        failed="the image is not here, and cannot be built",
        fix="install docker-buildx-plugin (Debian's own: docker-buildx), or run with --engine venv",
    ),
    Check(
        name="engine.rootless",
        about="Whether the engine runs without root.",
        warning="NVIDIA's container runtime cannot set device cgroups there",
        fix="sudo nvidia-ctk config --set nvidia-container-cli.no-cgroups --in-place; restart the engine",
    ),
    Check(
        name="engine.disk",
        about="Free space where the engine keeps images, against what the target's image takes.",
        warning="the next image may not fit",
        failed="the image is not built yet, and does not fit",
        fix="docker system df, docker image prune; or another data-root in /etc/docker/daemon.json",
    ),
    Check(
        name="image",
        about="The target's image: whether the engine has it, built from the lock of this checkout.",
        failed="`launch run` refuses to start a container without it",
        fix="launch image build {target}   (or run without a container: --engine venv)",
    ),
    Check(
        name="environment",
        about="The environment of runs without a container: whether it is there, from this lock.",
        warning="the first run without a container makes it, which takes minutes",
        fix="launch image fetch {target} brings its files beforehand",
    ),
    # ---------------------------------------------------------------------------------- NVIDIA
    Check(
        name="nvidia.driver",
        about="NVIDIA's driver, against the CUDA version of the target's wheels.",
        warning="the driver works, with a limit",
        failed="no CUDA program of this target starts",
        fix="update the NVIDIA driver, then reboot",
    ),
    Check(
        name="nvidia.runtime",
        about="Whether the engine can give NVIDIA GPUs to containers.",
        failed="containers would start without a GPU, so they are refused",
        fix="install nvidia-container-toolkit; sudo nvidia-ctk runtime configure --runtime=docker; "
        "sudo systemctl restart docker",
    ),
    Check(
        name="nvidia.capability",
        about="The compute capability of each GPU, against torch's wheels and the packages' kernels.",
        warning="it works, and some kernels do not run on it",
        failed="the wheels have no code for it",
        fix="choose others with --gpus",
    ),
    Check(
        name="nvidia.ecc",
        about="Errors of the GPUs' memory that ECC could not correct, since the driver was loaded.",
        warning="a GPU computed with wrong bits; results since then are in doubt",
        fix="nvidia-smi -q -d ECC,PAGE_RETIREMENT,ROW_REMAPPER; reboot; replace the card if it returns",
    ),
    Check(
        name="nvidia.memory",
        about="GPU memory that other programs hold.",
        warning="a run has less than the card's size says, and may run out of memory",
        fix="nvidia-smi shows who holds it; choose other GPUs with --gpus",
    ),
    # ---------------------------------------------------------------------------------- Intel
    Check(
        name="intel.cards",
        about="Intel's discrete GPUs, by the kernel's list of PCI ids.",
        warning="it may work: nobody has tried it here",
        fix="launch run with --gpus 0",
    ),
    Check(
        name="intel.driver",
        about="The kernel driver of each card, xe or i915.",
        failed="the card's programs do not find it",
        fix="boot a newer kernel, without i915.force_probe",
    ),
    Check(
        name="intel.kernel",
        about="The kernel's age, against the first one that has the card's support switched on.",
        warning="the card may not work",
        fix="install a newer kernel of the distribution, then reboot",
    ),
    Check(
        name="intel.bar",
        about="Resizable BAR: how much of a card's memory the processor sees at once.",
        warning="the card is slow, or not seen at all",
        fix="switch on Resizable BAR and Above 4G Decoding in the firmware",
    ),
    Check(
        name="intel.nodes",
        about="The render nodes: whether a run may open them, and /dev/dri/by-path.",
        failed="a run would not reach its GPUs",
        fix="sudo usermod -aG render $USER, then log in again",
    ),
    # ---------------------------------------------------------------------------------- the machine
    Check(
        name="cpu",
        about="The processor: cores that a run may use, cgroup limits included, and AVX2, AVX-512, AMX.",
        warning="a run is slow",
        fix="a machine with AVX2, or a larger CPU quota",
    ),
    Check(
        name="memory",
        about="RAM that a run can have, cgroup limits included, against the model's weights.",
        warning="the kernel may end the run (exit code 79)",
        fix="end other programs, raise the cgroup's limit, or train fewer parameters (LoRA, 8-bit Adam)",
    ),
    Check(
        name="shm",
        about="Shared memory (/dev/shm) of data loaders and collectives; containers get one of their own.",
        warning="a data loader may end with a bus error",
        failed="programs of several processes cannot start",
        fix="sudo mount -o remount,size={size} /dev/shm",
    ),
    Check(
        name="limits.nofile",
        about="Open files that a process may have. Containers have the engine's limits.",
        warning="data loaders may end with 'Too many open files'",
        fix="ulimit -n 65536",
    ),
    Check(
        name="limits.memlock",
        about="Memory that a process may lock. Containers have the engine's limits.",
        warning="NCCL over InfiniBand and asynchronous I/O may not register memory",
        fix="ulimit -l unlimited; for every login: /etc/security/limits.d",
    ),
    Check(
        name="limits.stack",
        about="The size of a process's stack. Containers have the engine's limits.",
        warning="deep recursion in compilers may end with a segmentation fault",
        fix="ulimit -s 8192",
    ),
    Check(
        name="clock",
        about="This machine's clock: whether it is set, and against what a reachable server says.",
        warning="times in records are wrong; tokens and signed addresses may be refused",
        failed="certificates count as not yet valid or as expired: nothing can be downloaded",
        fix="sudo timedatectl set-ntp true",
    ),
    # ---------------------------------------------------------------------------------- disks, model, token
    Check(
        name="disk.output",
        about="Free space where runs are recorded and models written, against the model's size.",
        warning="a checkpoint may not fit",
        failed="a run cannot write its record",
        fix="--output or LAUNCH_RUNS_DIR names another folder; delete old runs",
    ),
    Check(
        name="disk.cache",
        about="Free space of the launcher's cache of packages and environments.",
        warning="an environment, or the files of an image, may not fit",
        failed="the launcher cannot write into its cache",
        fix="LAUNCH_CACHE_DIR names another folder",
    ),
    Check(
        name="disk.models",
        about="Free space of the Hugging Face cache, against the model that is not in it yet.",
        warning="the next model may not fit",
        failed="the model is not here, and does not fit",
        fix="HF_HOME names another folder; hf cache prune frees some",
    ),
    Check(
        name="model",
        about="The model to start from: the one given, or the recipe's default.",
        warning="a start downloads it, or asks the hub what is missing",
        failed="`launch run` refuses to start without it",
        fix="hf download {model}; or --model FOLDER",
    ),
    Check(
        name="token",
        about="The hub's token: whether there is one, and whether it looks like one. It is never shown.",
        warning="the hub will refuse it, for public models too",
        fix="hf auth login, or correct HF_TOKEN",
    ),
    # ---------------------------------------------------------------------------------- the network
    Check(
        name="network.settings",
        about="Proxies, mirrors, extra certificates and offline switches in effect, without credentials.",
        failed="a setting names what is not there",
        fix="correct or unset {variable}",
    ),
    Check(
        name="network.hub",
        about="Whether the model hub answers, by the user's own settings.",
        warning="models that are not in the cache cannot be fetched",
        fix="check HTTPS_PROXY; HF_ENDPOINT names a mirror; HF_HUB_OFFLINE=1 stops asking",
    ),
    Check(
        name="network.packages",
        about="Whether uv finds a package in the user's indexes, pip's settings included.",
        warning="packages that are not in the cache cannot be fetched",
        fix="check HTTPS_PROXY; PIP_INDEX_URL or UV_DEFAULT_INDEX names a mirror; UV_OFFLINE=1 stops asking",
    ),
    Check(
        name="network.wheels",
        about="Whether the places of wheels answer that are on no index; asked while one is missing.",
        warning="these wheels cannot be fetched",
        fix="check HTTPS_PROXY; or put the files into the cache by hand (docs/images.md)",
    ),
    Check(
        name="network.images",
        about="Whether the registry of the base image answers; asked while the image is not built. "
        "The engine has a proxy of its own.",
        warning="the base image cannot be pulled from here",
        fix="check HTTPS_PROXY and the engine's proxy; or launch image build --base REF names a mirror",
    ),
)

#: By name, in the order of the table.
CHECKS: Mapping[str, Check] = {check.name: check for check in _ALL}
