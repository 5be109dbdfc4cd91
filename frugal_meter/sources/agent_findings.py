"""What is to be known of the host agent, in words for people: English and French."""

from __future__ import annotations

from typing import Final

from .findings import MODEL, MODEL_FR, Finding

#: what an agent without a sensor is good for: nothing, and services know how to go on
_IDLE: Final = "Until then leave the agent off: services on this host use the power model by themselves."
_IDLE_FR: Final = (
    "En attendant, ne lancez pas l'agent : les services de cette machine se servent d'eux-mêmes du modèle de puissance."
)


def nothing_to_hand_out(why: Finding) -> Finding:
    """``why`` no sensor can be read, as the agent says it: the power model is its services', not its own."""
    mends = why.code != "rapl-no-package"  # which only tells a service how to go on without
    return Finding(
        code="agent-without-sensor",
        what=f"no sensor can be read here, so there is nothing to hand out: {why.what}",
        where=why.where,
        remedy=" ".join(filter(None, (why.remedy.removesuffix(MODEL).strip() if mends else "", _IDLE))),
        what_fr=f"aucun capteur n'est lisible ici, il n'y a donc rien à transmettre : {why.what_fr}",
        remedy_fr=" ".join(filter(None, (why.remedy_fr.removesuffix(MODEL_FR).strip() if mends else "", _IDLE_FR))),
    )


def agent_used(where: str) -> Finding:
    """An agent answers, and its figures are taken."""
    return Finding(
        code="agent-used",
        what="the sensors of this host are read by its agent; this service needs no right of its own to measure",
        where=where,
        remedy="Nothing to do. While the agent is away the power model stands in, flagged energy:agent-away.",
        what_fr="les capteurs de cette machine sont lus par son agent ; ce service n'a besoin d'aucun droit pour mesurer",
        remedy_fr="Rien à faire. Quand l'agent est absent, le modèle de puissance le remplace, signalé energy:agent-away.",
    )


def agent_away(where: str, why: str) -> Finding:
    """An agent was asked for and does not answer."""
    return Finding(
        code="agent-away",
        what=f"the host agent does not answer ({why}): the power model stands in until it does",
        where=where,
        remedy="On the host: systemctl status frugal-meter-agent. Is this user in the group of its socket (id -nG), is the "
        "socket mounted into this container, and over TCP, does FRUGAL_AGENT_TOKEN name a service of its tokens file?",
        what_fr=f"l'agent d'hôte ne répond pas ({why}) : le modèle de puissance le remplace en attendant",
        remedy_fr="Sur l'hôte : systemctl status frugal-meter-agent. Cet utilisateur est-il du groupe de sa socket (id -nG), la "
        "socket est-elle montée dans ce conteneur et, par TCP, FRUGAL_AGENT_TOKEN est-il dans son fichier de jetons ?",
    )


def agent_blind(where: str) -> Finding:
    """An agent that answers and has no sensor of the CPU."""
    return Finding(
        code="agent-blind",
        what="the host agent answers but has no CPU sensor to read: its figures are not used",
        where=where,
        remedy="Run frugal-meter doctor on the host, as the agent's user: it says why RAPL cannot be read there.",
        what_fr="l'agent d'hôte répond mais n'a pas de capteur du processeur : ses chiffres ne servent pas",
        remedy_fr="Lancez frugal-meter doctor sur l'hôte, sous l'utilisateur de l'agent : il dit pourquoi.",
    )
