"""What the choice of sources leaves to be known, in words for people: English and French."""

from __future__ import annotations

from pathlib import Path

from .cpu_table import CpuMatch
from .findings import Finding


def scopes_differ(where: Path) -> Finding:
    """A host's counters beside a container's view of the CPU time."""
    return Finding(
        code="rapl-scope",
        what="RAPL counts the whole host, but /proc/stat shows only this container's CPU time: the counters are not used",
        where=str(where),
        remedy="Run the host agent on the node, or declare scope 'vm-share' if the tree holds this machine's share only.",
        what_fr="RAPL compte tout l'hôte, mais /proc/stat ne montre que le temps CPU du conteneur : compteurs ignorés",
        remedy_fr="Lancez l'agent d'hôte sur la machine, ou déclarez la portée 'vm-share' si l'arbre ne contient que votre part.",
    )


def no_package(where: Path) -> Finding:
    """A powercap tree without any package."""
    return Finding(
        code="rapl-no-package",
        what="no package zone is listed",
        where=str(where),
        remedy="Use sources='auto' to go on with the power model.",
        what_fr="aucune zone « package » n'est listée",
        remedy_fr="Utilisez sources='auto' pour continuer avec le modèle de puissance.",
    )


def cpu_relative(name: str, match: CpuMatch, where: str) -> Finding:
    """A CPU that a relative in the table stands for."""
    return Finding(
        code="cpu-relative",
        what=f"{name} ({match.microarchitecture}) is not in the table of watts: its nearest relative, {match.row}, stands for it",
        where=where,
        remedy="Declare the watts of this machine, idle and at full load, to narrow the interval.",
        what_fr=f"{name} ({match.microarchitecture}) n'est pas dans la table de puissances : "
        f"son plus proche parent, {match.row}, le remplace",
        remedy_fr="Déclarez la puissance de cette machine, à vide et à pleine charge, pour resserrer l'intervalle.",
    )


def cpu_vendor(name: str, match: CpuMatch, where: str) -> Finding:
    """A CPU of a known vendor that nothing in the table is near to."""
    return Finding(
        code="cpu-vendor",
        what=f"{name} is like no CPU in the table of watts: all servers with CPUs of {match.vendor} stand for it",
        where=where,
        remedy="Declare the watts of this machine, idle and at full load, to narrow the interval.",
        what_fr=f"{name} ne ressemble à aucun processeur de la table : tous les serveurs {match.vendor} le remplacent",
        remedy_fr="Déclarez la puissance de cette machine, à vide et à pleine charge, pour resserrer l'intervalle.",
    )


def cpu_unknown(name: str, where: str) -> Finding:
    """A CPU that nothing in the table is near to."""
    return Finding(
        code="cpu-unknown",
        what=f"unknown CPU ({name}): the whole table is its interval",
        where=where,
        remedy="Declare the watts of this machine, idle and at full load.",
        what_fr=f"processeur inconnu ({name}) : son intervalle est toute la table",
        remedy_fr="Déclarez la puissance de cette machine, à vide et à pleine charge.",
    )


def memory_unknown(where: Path) -> Finding:
    """A machine that does not say how much memory it has."""
    return Finding(
        code="memory-unknown",
        what="the size of the memory cannot be read: memory is not counted",
        where=str(where),
        remedy="Declare the watts of the memory.",
        what_fr="la taille de la mémoire ne peut être lue : la mémoire n'est pas comptée",
        remedy_fr="Déclarez la puissance de la mémoire.",
    )
