"""Which criteria of the RGESN 2024 and which themes of AFNOR SPEC 2314 a study answers, and what a person must still fill in.

Subjects are in our own words. RGESN numbers: Référentiel général d'écoconception de services numériques, 2024 (Arcep, Arcom,
with ADEME, DINUM, CNIL and Inria). AFNOR SPEC 2314 (2024, updated 2025): themes of its public summaries only, without numbers;
its text may not be mined, so that a person who holds it adds them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ..exporters.page_markup import Html, el, join
from ..exporters.page_texts import LANGUAGES, Lang, typeset
from .report_view import View, table
from .results import Study

Both = tuple[str, str]  # French, English


class Practice(NamedTuple):
    """A criterion: its number ("" for none), what it asks, and what is said of it when the study ``holds`` an answer or not."""

    number: str
    subject: Both
    holds: Callable[[Study], bool]
    answered: Both
    otherwise: Both
    human: Both


def _always(_: Study) -> bool:
    return True


def _compared(study: Study) -> bool:
    return len(study.variants) > 1


def _scored(study: Study) -> bool:
    return any(v.quality is not None for v in study.variants)


def _elsewhere(study: Study) -> bool:
    return any(v.tested is not None and v.tested.remote_j is not None for v in study.variants)


def _declared_pue(study: Study) -> bool:
    return "pue:default" not in study.pue.flags


_NOTHING: Final[Both] = ("Rien : hors de cette étude.", "Nothing: outside this study.")
RGESN: Final[tuple[Practice, ...]] = (
    Practice(
        "1.1",
        ("Utilité du service au regard de ses impacts", "Usefulness of the service, given its impacts"),
        _compared,
        (
            "Énergie, carbone et qualité de chaque variante, côte à côte (sections 3 et 4).",
            "Energy, carbon and quality of each variant side by side (sections 3 and 4).",
        ),
        ("Les impacts du service, sans alternative comparée.", "The service’s impacts, without an alternative compared."),
        ("Le jugement d’utilité lui-même, et qui l’a porté.", "The judgement of usefulness itself, and who made it."),
    ),
    Practice(
        "1.4",
        ("Revues régulières de la démarche", "Regular reviews of the approach"),
        _always,
        ("Un point de départ daté et recalculable.", "A dated starting point that can be recomputed."),
        _NOTHING,
        ("Les dates des revues et qui les mène.", "The dates of reviews and who holds them."),
    ),
    Practice(
        "1.5",
        ("Objectifs de réduction des impacts du service", "Targets for reducing the service’s own impacts"),
        _always,
        ("La valeur de référence par unité et par an.", "The baseline per unit and per year."),
        _NOTHING,
        ("L’objectif chiffré et son échéance.", "The target in figures and its date."),
    ),
    Practice(
        "2.10",
        ("Impacts des services tiers au moment de les choisir", "Impacts of third-party services when choosing them"),
        _elsewhere,
        (
            "L’énergie dépensée par les modèles appelés ailleurs, avec son niveau de preuve.",
            "The energy spent by models called elsewhere, with its tier.",
        ),
        ("Aucun modèle n’a été appelé ailleurs pendant l’essai.", "No model was called elsewhere in the test."),
        ("Les autres services tiers, et les critères du choix.", "Other third-party services, and the grounds of the choice."),
    ),
    Practice(
        "8.3",
        ("Efficacité énergétique de l’hébergement (PUE)", "Energy efficiency of the hosting (PUE)"),
        _declared_pue,
        (
            "Le PUE déclaré, sa source, et ce qu’il change (section 5).",
            "The PUE declared, its source, and what it changes (section 5).",
        ),
        (
            "Une valeur par défaut et sa plage : le PUE du site n’est pas déclaré.",
            "A default and its range: the site’s PUE is not declared.",
        ),
        ("Le PUE du site et l’année, demandés à l’hébergeur.", "The site’s PUE and its year, asked of the hosting company."),
    ),
    Practice(
        "8.4",
        ("Eau consommée par l’hébergement (WUE)", "Water used by the hosting (WUE)"),
        lambda _: False,
        _NOTHING,
        ("Rien : l’eau n’est pas comptée ici.", "Nothing: water is not counted here."),
        ("Le WUE du site, demandé à l’hébergeur.", "The site’s WUE, asked of the hosting company."),
    ),
    Practice(
        "8.5",
        ("Origine de l’électricité", "Origin of the electricity"),
        _always,
        (
            "Le facteur du réseau local, son année et sa source (section 11) ; les contrats n’y entrent pas.",
            "The factor of the local grid, its year and source (section 11); contracts do not enter it.",
        ),
        _NOTHING,
        ("La part renouvelable que l’hébergeur documente.", "The renewable share that the hosting company documents."),
    ),
    Practice(
        "8.6",
        ("Lieu de l’hébergement", "Place of the hosting"),
        _always,
        ("La zone électrique retenue.", "The electricity zone in force."),
        _NOTHING,
        ("Le lieu exact, et pourquoi il convient.", "The exact place, and why it fits."),
    ),
    Practice(
        "9.1",
        ("Nécessité d’une phase d’entraînement", "Need for a training phase"),
        _compared,
        (
            "Ce que donnent une IA plus petite ou une réponse sans IA (sections 3 et 4).",
            "What a smaller AI or an answer without AI achieves (sections 3 and 4).",
        ),
        ("La raison pour laquelle aucune alternative n’a été comparée.", "The reason why no alternative was compared."),
        ("La justification de l’entraînement, s’il y en a un.", "The grounds for training, if there is any."),
    ),
    Practice(
        "9.2",
        ("Apprentissage proportionné à l’usage", "Training in proportion to the use"),
        lambda study: bool(study.upstream),
        ("Le chiffre d’amont du fournisseur (section 7).", "The supplier’s upstream figure (section 7)."),
        ("Chiffre d’amont non fourni (section 7).", "Upstream figure not supplied (section 7)."),
        ("La taille du modèle au regard du besoin.", "The size of the model, given the need."),
    ),
    Practice(
        "9.3",
        ("Limitation de la quantité d’entraînement", "Limiting the amount of training"),
        lambda _: False,
        _NOTHING,
        _NOTHING,
        (
            "Réemploi d’un modèle existant, ajustement partiel, arrêt anticipé.",
            "Reuse of an existing model, partial tuning, early stopping.",
        ),
    ),
    Practice(
        "9.4",
        ("Quantité de données d’apprentissage", "Amount of training data"),
        lambda _: False,
        _NOTHING,
        _NOTHING,
        ("La quantité de données et sa raison.", "The amount of data and its grounds."),
    ),
    Practice(
        "9.5",
        ("Rythme des mises à jour et réentraînements", "Pace of updates and retraining"),
        lambda _: False,
        _NOTHING,
        _NOTHING,
        ("Le rythme prévu et ce qui le déclenche.", "The pace foreseen and what sets it off."),
    ),
    Practice(
        "9.6",
        ("Compression des modèles", "Compression of models"),
        _compared,
        ("L’écart d’énergie entre les modèles comparés.", "The gap of energy between the models compared."),
        ("Le nom des modèles servis.", "The names of the models served."),
        (
            "Les techniques employées : quantification, élagage, distillation.",
            "Techniques used: quantisation, pruning, distillation.",
        ),
    ),
    Practice(
        "9.7",
        ("Stratégie d’inférence : suivi, satisfaction, objectifs", "Inference strategy: monitoring, satisfaction, targets"),
        _scored,
        (
            "Énergie et calcul par unité, en regard d’un score de qualité (section 4).",
            "Energy and computing per unit, beside a quality score (section 4).",
        ),
        ("Énergie et calcul par unité, sans score de qualité.", "Energy and computing per unit, without a quality score."),
        ("La satisfaction réelle des usagers, et les objectifs fixés.", "Users’ actual satisfaction, and the targets set."),
    ),
)
SPEC_2314: Final[tuple[Practice, ...]] = (
    Practice(
        "",
        ("Nécessité de l’IA démontrée face à une solution plus sobre", "Need for AI shown against a solution that uses less"),
        _compared,
        (
            "La même charge servie par chaque variante (sections 2 à 4).",
            "The same load served by each variant (sections 2 to 4).",
        ),
        ("La raison donnée pour ne rien comparer.", "The reason given for comparing nothing."),
        ("La conclusion : l’IA est-elle nécessaire ici ?", "The conclusion: is AI needed here?"),
    ),
    Practice(
        "",
        ("Unité fonctionnelle et périmètre", "Functional unit and boundary"),
        _always,
        (
            "L’unité, le périmètre dessiné, ce qui n’est pas compté (sections 2 et 6).",
            "The unit, the boundary drawn, what is not counted (sections 2 and 6).",
        ),
        _NOTHING,
        ("Pourquoi cette unité, si ce n’est pas dit en section 2.", "Why this unit, unless section 2 says so."),
    ),
    Practice(
        "",
        ("Cycle de vie : fabrication, usage, taux d’utilisation", "Life cycle: manufacturing, use, rate of utilisation"),
        lambda study: study.embodied is not None,
        (
            "Fabrication au prorata, usage, veille comprise (sections 3 et 6).",
            "Manufacturing pro rata, use, idling included (sections 3 and 6).",
        ),
        ("L’usage et la veille ; pas la fabrication.", "Use and idling; not manufacturing."),
        ("Terminaux, réseau et fin de vie.", "Devices, network and end of life."),
    ),
    Practice(
        "",
        ("Plusieurs impacts, pas le seul carbone", "Several impacts, not carbon alone"),
        lambda _: False,
        _NOTHING,
        ("Énergie et carbone seulement.", "Energy and carbon only."),
        ("Eau, métaux et énergie primaire.", "Water, metals and primary energy."),
    ),
    Practice(
        "",
        ("Effets indirects et effet rebond", "Indirect effects and rebound"),
        lambda study: study.rebound is not None,
        ("Ce qu’en dit l’équipe (section 8).", "What the team says of it (section 8)."),
        ("Non étudié.", "Not studied."),
        ("Une mesure des usages avant et après.", "A count of uses before and after."),
    ),
    Practice(
        "",
        ("Registre des services d’IA", "Register of AI services"),
        _always,
        ("Le nom du service, les modèles, la date.", "The name of the service, the models, the date."),
        _NOTHING,
        ("L’identifiant, le statut et l’équipe responsable.", "The identifier, the status and the team in charge."),
    ),
    Practice(
        "",
        ("Réévaluation de la mesure au fil de la vie du service", "Measuring again through the life of the service"),
        _always,
        (
            "De quoi refaire la même étude et la comparer (section 12).",
            "What it takes to make the same study again and compare (section 12).",
        ),
        _NOTHING,
        ("Le calendrier.", "The calendar."),
    ),
    Practice(
        "",
        ("Communication vérifiable", "Communication that can be verified"),
        _always,
        (
            "Intervalles, niveau de preuve, données et script (sections 3, 11 et 12).",
            "Intervals, tier, data and script (sections 3, 11 and 12).",
        ),
        _NOTHING,
        ("La relecture de tout message qui reprend ces chiffres.", "Reading over any message that takes up these figures."),
    ),
)


def practices(view: View) -> Html:
    """Both tables."""
    return join(
        el("p", view.say("practices_said")),
        _table(view, "rgesn_caption", view.say("criterion"), RGESN),
        _table(view, "spec_caption", view.say("theme"), SPEC_2314),
    )


def _table(view: View, caption: str, head: str, listed: Sequence[Practice]) -> Html:
    heads = [head, view.say("here"), view.say("human")]
    rows = ((_name(each, view.lang), _cells(view, each, heads)) for each in listed)
    return table(view.say(caption), heads, rows, class_="practices")


def _name(each: Practice, lang: Lang) -> Html:
    number = el("span", each.number, class_="letter") if each.number else None
    return join(number, " " if number else None, el("span", _in(each.subject, lang), class_="name"))


def _cells(view: View, each: Practice, heads: Sequence[str]) -> list[Html]:
    here = each.answered if each.holds(view.study) else each.otherwise
    return [view.text_cell(heads[1], _in(here, view.lang)), view.text_cell(heads[2], _in(each.human, view.lang))]


def _in(both: Both, lang: Lang) -> str:
    said = both[LANGUAGES.index(lang)]
    return typeset(said) if lang == "fr" else said
