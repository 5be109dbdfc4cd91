"""The words of ``frugal-meter study``, in French and in English."""

from __future__ import annotations

from typing import Final

#: key: (French, English)
WORDS: Final[dict[str, tuple[str, str]]] = {
    "wrote": ("{file} écrit : adaptez-le, puis {command}", "{file} written: adapt it, then {command}"),
    "measuring": ("mesure", "measuring"),
    "step": ("série {round}, {variant}", "round {round}, {variant}"),
    "kept": (
        "étude interrompue ; répétitions gardées dans {out} : {done} sur {all} ; reprenez avec --resume",
        "study interrupted: {done} of {all} repetitions are kept in {out}; go on with --resume",
    ),
    "done": ("étude terminée : {out}", "study finished: {out}"),
    "head": ("par {unit}, à l'usage déclaré", "per {unit}, at the declared use"),
    "head_served": ("par {unit}, sur ce qui a été servi", "per {unit}, over what was served"),
    "tested": ("pendant l'essai", "while tested"),
    "none_delivered": ("rien n'a été rendu : aucun chiffre par unité", "nothing was delivered: no figure per unit"),
    "failed": ("{failed} requêtes sur {all} ont échoué ({why})", "{failed} of {all} requests failed ({why})"),
    "covered": (
        "seuls {share} de cette période ont été mesurés : le reste n'est pas dans ces chiffres",
        "only {share} of this period was metered: the rest is not in these figures",
    ),
    "quality": ("qualité {score} ({low} à {high})", "quality {score} ({low} to {high})"),
    "no_quality": ("pas de note de qualité", "no quality score"),
    "remote-unknown": (
        "des appels à des modèles d'ailleurs n'ont pas de chiffre connu : ils manquent ici",
        "calls to models elsewhere have no known figure: they are missing from these",
    ),
    "remote-carbon-unknown": (
        "le carbone des modèles appelés ailleurs n'est pas connu : il manque ici",
        "the carbon of models called elsewhere is not known: it is missing from these",
    ),
    "beyond-one-machine": (
        "l'usage déclaré dépasse ce qu'une machine rend en un an à ce rythme",
        "the declared use is more than one machine delivers in a year at this pace",
    ),
    "ratio": (
        "{variant} ÷ {reference}, énergie pendant l'essai : {ratio}",
        "{variant} ÷ {reference}, energy while tested: {ratio}",
    ),
    "sound": (
        "intègre : toutes les empreintes sont justes, {figures} valeurs recalculées au dernier chiffre près\n"
        "à citer : sha256:{identity}",
        "sound: every hash is right, {figures} figures recomputed to the last digit\nto cite: sha256:{identity}",
    ),
    "unsound": ("{n} défauts", "{n} faults"),
    "next": (
        "vérifier : frugal-meter study verify {out} · rapport : frugal-meter study report {out}",
        "check: frugal-meter study verify {out} · report: frugal-meter study report {out}",
    ),
}
