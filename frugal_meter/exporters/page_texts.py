"""The words of the live page, in French and in English. Plain language first, the field's term second."""

from __future__ import annotations

from typing import Final, Literal

from ..sources.watts import ASSUMPTIONS

Lang = Literal["fr", "en"]
LANGUAGES: Final[tuple[Lang, ...]] = ("fr", "en")

MONTHS: Final[dict[Lang, tuple[str, ...]]] = {
    "fr": (
        "janvier",
        "février",
        "mars",
        "avril",
        "mai",
        "juin",
        "juillet",
        "août",
        "septembre",
        "octobre",
        "novembre",
        "décembre",
    ),
    "en": (
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ),
}

#: key: (French, English)
_WORDS: Final[dict[str, tuple[str, str]]] = {
    # the frame
    "title": ("Énergie et carbone en direct", "Energy and carbon, live"),
    "skip": ("Aller au contenu", "Skip to content"),
    "language": ("Langue", "Language"),
    "zone": ("Zone électrique : ", "Electricity zone: "),
    "pause": ("Mettre en pause", "Pause"),
    "resume": ("Reprendre", "Resume"),
    "status_live": ("Mise à jour toutes les 2 secondes.", "Updated every 2 seconds."),
    "status_paused": ("En pause : les chiffres ne bougent plus.", "Paused: the figures stand still."),
    "status_lost": (
        "Le service ne répond plus : voici les derniers chiffres reçus.",
        "The service no longer answers: these are the last figures received.",
    ),
    "reload": ("Actualiser la page", "Reload the page"),
    "figures_of": ("Chiffres de ", "Figures of "),
    "disabled": (
        "Compteur désactivé (FRUGAL_DISABLED=1) : rien n’est mesuré, aucun budget n’agit.",
        "Meter switched off (FRUGAL_DISABLED=1): nothing is metered, no budget acts.",
    ),
    "unknown": ("inconnu", "unknown"),
    "bounds_unknown": ("intervalle inconnu", "interval unknown"),
    "to": ("à", "to"),
    "colon": (" : ", ": "),
    "none": ("aucune", "none"),
    # units that are not written as they are named; the others are the same everywhere
    "unit_gCO2e": ("gCO₂e", "gCO₂e"),
    "unit_CPU-s": ("s de CPU", "s of CPU"),
    "unit_GPU-s": ("s de GPU", "s of GPU"),
    "unit_tokens": ("jetons", "tokens"),
    "unit_requests": ("requêtes", "requests"),
    # proof
    "tier_measured": ("mesuré", "measured"),
    "tier_modelled": ("modélisé", "modelled"),
    "tier_sourced": ("repris d’un tiers", "sourced"),
    "tier_none": ("niveau de preuve inconnu", "tier unknown"),
    "means_measured": ("lu sur un capteur de la machine", "read from a sensor of the machine"),
    "means_modelled": ("estimé par un modèle, pas mesuré", "estimated by a model, not measured"),
    "means_sourced": (
        "chiffre d’un fournisseur, ni mesuré ni calculé ici",
        "a supplier’s figure, neither measured nor computed here",
    ),
    "provisional": ("provisoire", "provisional"),
    "settled": ("définitif", "settled"),
    # headline
    "now": ("En ce moment", "Right now"),
    "watts": ("Puissance de la machine", "Power of the machine"),
    "window": ("moyenne sur {} s", "mean over {} s"),
    "energy_since": ("Depuis le démarrage", "Since start"),
    "all_workers": ("avec les {} processus du service, ensemble", "with the service’s {} processes, all together"),
    "requests_share": ("Part des requêtes", "Share of requests"),
    "requests_share_note": (
        "de l’énergie de la machine, pour leur seul calcul",
        "of the machine’s energy, for their computing alone",
    ),
    "meter_share": ("Le compteur lui-même", "The meter itself"),
    "meter_share_note": ("du temps processeur du service, mesuré", "of the service’s CPU time, measured"),
    # the account
    "account": ("Où sont allés les joules", "Where the joules went"),
    "account_caption": ("Énergie de la machine depuis le ", "Energy of the machine since "),
    "part": ("Part", "Part"),
    "energy": ("Énergie", "Energy"),
    "share": ("Proportion", "Share"),
    "total": ("Total de la machine", "Total of the machine"),
    "bucket_requests": ("Les requêtes", "Requests"),
    "bucket_late": ("Travail après la réponse", "Work after the answer"),
    "bucket_overhead": ("Le service lui-même : démarrage, logiciel, compteur", "The service itself: start-up, framework, meter"),
    "bucket_other": ("Les autres programmes de la machine", "Other programs on the machine"),
    "bucket_idle": ("La machine au repos : allumée, sans calculer", "The idle machine: on, not computing"),
    "bucket_gap": ("Non attribuable : veille, capteur absent", "Not attributable: sleep, sensor gone"),
    "chart": ("Répartition de l’énergie, détaillée dans le tableau qui suit : ", "Energy split, detailed in the table below: "),
    "account_unknown": (
        "Inconnu : aucune source ne donne de joules sur cette machine.",
        "Unknown: no source gives joules on this machine.",
    ),
    "account_waits": (
        "Inconnu : les sources n’ont pas encore été relevées.",
        "Unknown: the sources have not been read yet.",
    ),
    "account_zero": ("Rien n’a encore été compté.", "Nothing has been counted yet."),
    "closes": (
        "Le compte tombe juste : la somme des parts est l’énergie de la machine, écart {} nJ. "
        "C’est de la comptabilité, pas de la précision : chaque part est connue à son intervalle près.",
        "The account closes: the parts sum to the host’s energy, {} nJ off. "
        "This is bookkeeping, not accuracy: each part is known to within its interval.",
    ),
    "closes_not": (
        "Le compte ne tombe pas juste : écart {} nJ entre la machine et la somme des parts. C’est un défaut à signaler.",
        "The account does not close: {} nJ between the host and the sum of the parts. Please report this fault.",
    ),
    "closes_unknown": ("Écart entre la machine et la somme des parts : inconnu.", "Difference between host and parts: unknown."),
    # requests
    "requests": ("Dernières requêtes", "Last requests"),
    "requests_caption": ("Les {} dernières au plus, la plus récente d’abord", "At most the last {}, newest first"),
    "requests_own": (
        " ; celles d’un seul des {} processus du service, celui qui répond ici",
        "; of one of the service’s {} processes only, the one that answers here",
    ),
    "request": ("Requête", "Request"),
    "model": ("Modèle", "Model"),
    "compute": ("Calcul", "Compute"),
    "carbon": ("Carbone", "Carbon"),
    "verdict": ("Décision et issue", "Decision and outcome"),
    "no_requests": ("Aucune requête pour l’instant.", "No requests yet."),
    "route_unknown": ("route inconnue", "unknown route"),
    "model_none": ("non déclaré", "not declared"),
    "asked": ("demandé : ", "asked for: "),
    "cpu": ("processeur, mesuré", "CPU, measured"),
    "gpu": ("carte graphique", "GPU"),
    "tokens": ("{} jetons lus, {} écrits", "{} tokens in, {} out"),
    "dynamic": ("dont {} pour le calcul", "of which {} for computing"),
    "dynamic_only": ("pour le calcul seul, sans le repos", "for computing alone, without idle"),
    "remote": ("et {} ailleurs", "and {} elsewhere"),
    "decision_admit": ("acceptée", "admitted"),
    "decision_warn": ("acceptée, budget bientôt atteint", "admitted, budget nearly reached"),
    "decision_degrade": ("confiée à un modèle plus petit", "given to a smaller model"),
    "decision_throttle": ("mise en attente", "made to wait"),
    "decision_refuse": ("refusée par un budget", "refused by a budget"),
    "decision_cut": ("coupée par un budget", "cut by a budget"),
    "decision_none": ("aucun budget concerné", "no budget concerned"),
    "outcome_ok": ("réussie", "succeeded"),
    "outcome_error": ("en erreur", "failed"),
    "outcome_client_disconnect": ("usager parti avant la fin", "visitor left before the end"),
    "outcome_cancelled": ("annulée", "cancelled"),
    "outcome_refused": ("sans réponse du service", "not answered by the service"),
    # budgets
    "budgets": ("Budgets", "Budgets"),
    "budgets_caption": ("Ce qui est consommé, réservé et permis", "What is used, reserved and allowed"),
    "budget": ("Budget", "Budget"),
    "used": ("Consommé", "Used"),
    "level": ("Niveau", "Level"),
    "reset": ("Remise à zéro", "Reset"),
    "no_budgets": ("Aucun budget déclaré.", "No budget declared."),
    "of": ("{} sur {}", "{} of {}"),
    "of_share": ("{} sur {}, soit {}", "{} of {}, that is {}"),
    "reserved": ("dont {} réservés aux requêtes en cours", "of which {} reserved by running requests"),
    "whole_service": ("tout le service", "the whole service"),
    "matching": ("requêtes {}", "requests {}"),
    "dynamic_basis": ("énergie de calcul, sans la part de repos", "computing energy, without the share of idle"),
    "per_key": ("par ", "per "),
    "for_key": ("pour ", "for "),
    "key_route": ("route", "route"),
    "key_model": ("modèle", "model"),
    "key_tenant": ("organisme", "tenant"),
    "window_minute": ("chaque minute", "each minute"),
    "window_hour": ("chaque heure", "each hour"),
    "window_day": ("chaque jour", "each day"),
    "window_week": ("chaque semaine", "each week"),
    "window_month": ("chaque mois", "each month"),
    "rolling": ("glissante", "rolling"),
    "level_ok": ("dans le budget", "within budget"),
    "level_warn": ("bientôt atteint", "nearly reached"),
    "level_degrade": ("modèle plus petit", "smaller model"),
    "level_throttle": ("ralenti", "slowed down"),
    "level_refuse": ("épuisé : nouvelles requêtes refusées", "spent: new requests refused"),
    "level_refuse_shadow": ("épuisé", "spent"),
    "shadow": ("observé seulement : rien n’est refusé", "watched only: nothing is refused"),
    "enforced": ("appliqué", "enforced"),
    "cannot_refuse": (
        "ne peut pas refuser ici : il faudrait un chiffre {}",
        "cannot refuse here: that would take a {} figure",
    ),
    "passed": ("dérogation jusqu’au {}", "may be passed until {}"),
    "unmatched": (
        "aucune requête ne lui a correspondu depuis le {} : à vérifier",
        "has matched no request since {}: worth a look",
    ),
    "store_away": (
        "Les budgets communs ({}) sont hors d’atteinte depuis ce processus : ",
        "The shared budgets ({}) cannot be reached from this process: ",
    ),
    "alone_local": ("il dépense sa seule part de ce qui restait.", "it spends only its part of what was left."),
    "alone_open": ("il ne refuse plus rien.", "it refuses nothing."),
    "alone_closed": ("il refuse tout.", "it refuses everything."),
    "counted": ("compté à l’unité", "counted one by one"),
    # where the figures come from
    "provenance": ("D’où viennent ces chiffres", "Where these figures come from"),
    "sources_caption": ("Sources d’énergie", "Energy sources"),
    "source": ("Source", "Source"),
    "power": ("Puissance", "Power"),
    "state": ("État", "State"),
    "no_sources": ("Aucune source d’énergie : les joules sont inconnus.", "No energy source: joules are unknown."),
    "up": ("répond", "answering"),
    "down": ("ne répond pas", "not answering"),
    "component_cpu": ("processeur", "processor"),
    "component_memory": ("mémoire", "memory"),
    "component_dram": ("mémoire", "memory"),
    "component_gpu": ("carte graphique", "graphics card"),
    "component_board": ("carte mère et disques", "board and disks"),
    "component_node": ("machine entière", "whole machine"),
    "factor": ("Facteur d’émission", "Emission factor"),
    "factor_none": ("inconnu : le carbone n’est pas calculé", "unknown: carbon is not computed"),
    "published": ("publié", "published"),
    "year_unknown": ("année inconnue", "year unknown"),
    "licence": ("licence ", "licence "),
    "pue": ("Bâtiment (PUE)", "Building (PUE)"),
    "method": ("Méthode", "Method"),
    "flags": ("À savoir", "Worth knowing"),
    "flag_pue:default": (
        "le PUE n’est pas déclaré : une valeur par défaut, avec sa plage, est utilisée",
        "PUE is not declared: a default with its range is used",
    ),
    "flag_interval:expert-assumption": (
        "les intervalles reposent sur un jugement d’expert, pas encore sur un étalonnage",
        "intervals rest on expert judgement, not yet on a calibration",
    ),
    "flag_interval:calibrated": (
        "le partage entre requêtes est borné par une mesure faite sur cette machine",
        "the sharing among requests is bounded by a measurement made on this machine",
    ),
    "flag_embodied:default": (
        "le carbone de fabrication est celui d’un matériel courant, avec une large plage",
        "embodied carbon is that of typical hardware, with a wide range",
    ),
    "flag_embodied:none": ("le carbone de fabrication n’est pas compté", "embodied carbon is not counted"),
    "flag_factor:declared": (
        "le facteur d’émission a été déclaré par l’exploitant",
        "the emission factor was declared by the operator",
    ),
    "flag_factor:pack": (
        "le facteur d’émission vient du jeu de facteurs de l’exploitant",
        "the emission factor comes from the operator’s factor pack",
    ),
    "flag_factor:stale": (
        "le facteur d’émission décrit une année passée depuis plus de deux ans",
        "the emission factor describes a year more than two years back",
    ),
    "flag_factor:live": ("le facteur d’émission est celui du réseau en ce moment", "the emission factor is the grid’s of now"),
    "flag_factor:estimated": (
        "le facteur d’émission de cette heure est estimé par qui le publie",
        "the emission factor of this hour is estimated by its publisher",
    ),
    "flag_factor:cached": (
        "le réseau n’a pas répondu : son dernier facteur vaut encore",
        "the grid did not answer: its last factor still holds",
    ),
    "flag_factor:fallback": (
        "le facteur d’émission est celui de secours : aucun plus récent n’est connu",
        "the emission factor is the spare one: none newer is known",
    ),
    "flag_factor:mean-of-series": (
        "le facteur d’émission est la moyenne de sa série",
        "the emission factor is the mean of its series",
    ),
    "flag_factor:several": (
        "le facteur d’émission a changé pendant le traitement : sa moyenne est prise",
        "the emission factor changed while it ran: its mean is taken",
    ),
    "flag_factor:combined": ("le facteur d’émission est la moyenne de plusieurs", "the emission factor is the mean of several"),
    "flag_factor:range-expert-assumption": (
        "la plage du facteur d’émission est une hypothèse d’expert",
        "the range of the emission factor is an expert assumption",
    ),
    # limits and words
    "uncounted": ("Ce qui n’est pas compté", "What is not counted"),
    "uncounted_always": (
        "Le réseau, les appareils des usagers et l’entraînement des modèles. "
        "Les joules sont ceux de la machine ; le bâtiment (PUE) n’entre que dans le carbone.",
        "The network, visitors’ devices and the training of models. "
        "Joules are those of the machine; the building (PUE) enters only the carbon.",
    ),
    "uncounted_parts": (
        "Sans source d’énergie ici, donc absents des joules : {}.",
        "Without an energy source here, so not in the joules: {}.",
    ),
    "reading": ("Comment lire ces chiffres", "How to read these figures"),
    "reading_interval": ("Intervalle", "Interval"),
    "reading_interval_note": (
        "« 2,1 à 8,0 mJ » : plage plausible (hypothèse d’expert), pas un intervalle de confiance.",
        "“2.1 to 8.0 mJ”: plausible range (expert assumption), not a confidence interval.",
    ),
    "reading_id": ("Identifiant", "Identifier"),
    "reading_id_note": (
        "sous chaque requête, ce qui permet d’en refaire le calcul pas à pas :",
        "below each request, what its account can be redone with, step by step:",
    ),
    "reading_provisional_note": (
        "chiffre donné tout de suite, remplacé à la lecture suivante des sources par le chiffre définitif.",
        "a figure given at once, replaced by the settled one at the next reading of the sources.",
    ),
    "reading_units": ("Joule et watt", "Joule and watt"),
    "reading_units_note": (
        "un watt est un joule par seconde ; 3,6 millions de joules font un kilowattheure.",
        "one watt is one joule per second; 3.6 million joules make one kilowatt-hour.",
    ),
    "raw_metrics": ("Mesures brutes (Prometheus)", "Raw metrics (Prometheus)"),
    "raw_data": ("Données de cette page (JSON)", "Data of this page (JSON)"),
}


def typeset(french: str) -> str:
    """Hold French double punctuation to its word (Imprimerie nationale, Lexique, 2002)."""
    for mark in ":;?!»%":
        french = french.replace(f" {mark}", f"\u00a0{mark}")
    return french.replace("« ", "«\u00a0")


TEXTS: Final[dict[Lang, dict[str, str]]] = {
    "fr": {key: typeset(french) for key, (french, _) in _WORDS.items()},
    "en": {key: english for key, (_, english) in _WORDS.items()},
}


# what a model of power assumes is told here in the words that doctor has for it
for _flag, _said in ASSUMPTIONS.items():
    TEXTS["fr"].setdefault(f"flag_{_flag}", typeset(_said["fr"].replace("'", "’")))
    TEXTS["en"].setdefault(f"flag_{_flag}", _said["en"])


def text(key: str, lang: Lang, *figures: str) -> str:
    """The text of ``key`` with its blanks filled in order; KeyError for a key nobody wrote."""
    return TEXTS[lang][key].format(*figures) if figures else TEXTS[lang][key]


def word(group: str, name: str, lang: Lang) -> str:
    """The text of ``group_name``, or ``name`` itself when it is one the page was never told about."""
    return TEXTS[lang].get(f"{group}_{name}", name)
