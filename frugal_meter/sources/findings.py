"""What stands between this machine and measured joules, in words for people: English and French.

No text here advises opening ``energy_uj`` to every user: read often enough, it leaks keys (PLATYPUS, Lipp et al.
2021, IEEE S&P, CVE-2020-8694), which is why Linux keeps it for root since 5.10.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """Something to know about the sensors of this machine: a stable ``code``, what, where, and how to mend it.

    ``what`` and ``remedy`` are English; ``what_fr`` and ``remedy_fr`` say the same in French.
    """

    code: str
    what: str
    where: str
    remedy: str
    what_fr: str
    remedy_fr: str


#: how a service goes on meanwhile; the host agent has a sentence of its own (`agent_findings.nothing_to_hand_out`)
MODEL: Final = "Until then the power model is used: its figures are modelled, with a wide interval."
MODEL_FR: Final = "En attendant, le modèle de puissance sert : ses chiffres sont modélisés, avec un intervalle large."


def rapl_absent(where: Path) -> Finding:
    """No powercap at all: a virtual machine, a processor without RAPL, or a module that is not loaded."""
    return Finding(
        code="rapl-absent",
        what="this machine shows no RAPL energy counters",
        where=str(where),
        remedy="On bare metal load the driver: modprobe intel_rapl_msr (Intel and AMD alike). A virtual machine has no such "
        f"sensor: its host can hand down this machine's share as a powercap tree. {MODEL}",
        what_fr="cette machine ne montre aucun compteur d'énergie RAPL",
        remedy_fr="Sur une machine physique, chargez le pilote : modprobe intel_rapl_msr (Intel comme AMD). Une machine "
        f"virtuelle n'a pas ce capteur : son hôte peut lui transmettre sa part sous forme d'arbre powercap. {MODEL_FR}",
    )


def rapl_masked(where: Path, *, empty: bool) -> Finding:
    """The folders are there, their counters are not: what a container runtime leaves of powercap."""
    shown = ("is empty", "est vide") if empty else ("shows zones without their counters", "montre des zones sans leurs compteurs")
    return Finding(
        code="rapl-masked",
        what=f"the powercap folder {shown[0]}: a container runtime hides it on purpose"
        + (", or this machine has no RAPL" if empty else ""),
        where=str(where),
        remedy="Leave it hidden: the counters are a side channel (CVE-2020-8694). Run the host agent on the node itself, outside "
        f"the container, and read its figures from here. {MODEL}",
        what_fr=f"le dossier powercap {shown[1]} : un moteur de conteneurs le cache à dessein"
        + (", ou cette machine n'a pas RAPL" if empty else ""),
        remedy_fr="Laissez-le caché : ces compteurs sont un canal auxiliaire (CVE-2020-8694). Lancez l'agent d'hôte sur la "
        f"machine elle-même, hors du conteneur, et lisez ses chiffres d'ici. {MODEL_FR}",
    )


def rapl_unreadable(where: Path) -> Finding:
    """The counters are there and this user may not read them."""
    rule = (
        'SUBSYSTEM=="powercap", ACTION=="add", RUN+="/bin/chgrp frugal-agent /sys%p/energy_uj", '
        'RUN+="/bin/chmod 0440 /sys%p/energy_uj"'
    )
    return Finding(
        code="rapl-unreadable",
        what="RAPL is here, but this user may not read its counters",
        where=str(where),
        remedy="In a container, run the host agent on the node. On the host, run the meter's host agent, not the web service, as "
        "a systemd unit with AmbientCapabilities=CAP_DAC_READ_SEARCH (it reads every file of the host: keep the agent small) "
        f"or as root; or give the file to a group that holds the agent alone, by a udev rule: {rule}. Never open it to all "
        f"users: read often, it leaks their secrets (PLATYPUS, CVE-2020-8694). {MODEL}",
        what_fr="RAPL est là, mais cet utilisateur n'a pas le droit d'en lire les compteurs",
        remedy_fr="Dans un conteneur, lancez l'agent d'hôte sur la machine. Sur l'hôte, lancez l'agent de mesure, pas le service "
        "web, en unité systemd avec AmbientCapabilities=CAP_DAC_READ_SEARCH (il lit alors tout fichier de l'hôte : gardez-le "
        f"petit) ou en root ; ou donnez le fichier à un groupe réservé à cet agent, par une règle udev : {rule}. Ne l'ouvrez "
        f"jamais à tous : lu souvent, il trahit leurs secrets (PLATYPUS, CVE-2020-8694). {MODEL_FR}",
    )


def rapl_failing(where: Path) -> Finding:
    """A counter that answers with an error or with something other than a number."""
    return Finding(
        code="rapl-failing",
        what="a RAPL counter is here but gives no number",
        where=str(where),
        remedy="Look at the kernel log (dmesg | grep -i rapl); reload the driver: modprobe -r intel_rapl_msr, then "
        f"modprobe intel_rapl_msr. {MODEL}",
        what_fr="un compteur RAPL est là mais ne donne pas de nombre",
        remedy_fr="Regardez le journal du noyau (dmesg | grep -i rapl) ; rechargez le pilote : modprobe -r intel_rapl_msr, puis "
        f"modprobe intel_rapl_msr. {MODEL_FR}",
    )


def rapl_unknown_zone(where: Path, name: str) -> Finding:
    """A zone whose name does not say what it covers: counting it could count something twice."""
    return Finding(
        code="rapl-unknown-zone",
        what=f"the powercap zone {name!r} is not counted: what it covers is not known",
        where=str(where),
        remedy="Nothing to do: its energy may already be inside a package. Report its name so that it can be placed.",
        what_fr=f"la zone powercap {name!r} n'est pas comptée : on ignore ce qu'elle couvre",
        remedy_fr="Rien à faire : son énergie est peut-être déjà dans un processeur. Signalez son nom pour qu'elle soit classée.",
    )


def nvml_extra_missing() -> Finding:
    """nvidia-ml-py is not installed."""
    return Finding(
        code="nvml-extra-missing",
        what="NVIDIA GPUs are not looked for: nvidia-ml-py is not installed",
        where="python",
        remedy="If this machine has one: pip install 'frugal-meter[nvidia]'",
        what_fr="les GPU NVIDIA ne sont pas recherchés : nvidia-ml-py n'est pas installé",
        remedy_fr="Si cette machine en a un : pip install 'frugal-meter[nvidia]'",
    )


def nvml_no_driver(error: object) -> Finding:
    """The library of the driver is absent, or it cannot reach its driver."""
    return Finding(
        code="nvml-no-driver",
        what=f"no NVIDIA driver answers ({error})",
        where="libnvidia-ml.so.1",
        remedy="Without an NVIDIA GPU, nothing to do. With one, install its driver and check it with nvidia-smi; in a container, "
        "start it with the GPU (docker run --gpus all, or the Kubernetes device plugin).",
        what_fr=f"aucun pilote NVIDIA ne répond ({error})",
        remedy_fr="Sans GPU NVIDIA, rien à faire. Avec un GPU, installez son pilote et vérifiez-le par nvidia-smi ; dans un "
        "conteneur, lancez-le avec le GPU (docker run --gpus all, ou le greffon de périphériques de Kubernetes).",
    )


def nvml_mig_shared(where: str) -> Finding:
    """A GPU cut into instances has one energy counter for all of them."""
    return Finding(
        code="nvml-mig-shared",
        what="this GPU is cut into MIG instances; its energy is known for the whole board only",
        where=where,
        remedy="The whole GPU is read once and flagged as shared. For a share per instance, read dcgm-exporter's "
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE beside it.",
        what_fr="ce GPU est découpé en instances MIG ; son énergie n'est connue que pour la carte entière",
        remedy_fr="Le GPU entier est lu une fois et signalé comme partagé. Pour une part par instance, lisez à côté "
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE de dcgm-exporter.",
    )


def nvml_power_only(where: str) -> Finding:
    """A GPU older than Volta, or a virtual one: power can be read, energy cannot."""
    return Finding(
        code="nvml-power-only",
        what="this GPU has no energy counter; its power is integrated between ticks, with a wide interval",
        where=where,
        remedy="A shorter tick narrows it; GPUs since Volta (2017) count energy themselves.",
        what_fr="ce GPU n'a pas de compteur d'énergie ; sa puissance est intégrée entre deux relevés, avec un intervalle large",
        remedy_fr="Un pas plus court le resserre ; les GPU depuis Volta (2017) comptent eux-mêmes l'énergie.",
    )


def nvml_unreadable(where: str, error: object) -> Finding:
    """A GPU that gives neither energy nor power."""
    return Finding(
        code="nvml-unreadable",
        what=f"this GPU gives neither energy nor power ({error})",
        where=where,
        remedy="Virtual GPUs and MIG instances seen from inside hide both: read the GPU on its host (host agent, dcgm-exporter).",
        what_fr=f"ce GPU ne donne ni énergie ni puissance ({error})",
        remedy_fr="Les GPU virtuels et les instances MIG vues de l'intérieur cachent les deux : lisez le GPU sur son hôte (agent "
        "d'hôte ou dcgm-exporter).",
    )
