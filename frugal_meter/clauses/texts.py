"""The words of a report on clauses, in French and in English."""

from __future__ import annotations

from typing import Final

from ..exporters.page_texts import Lang, typeset

#: key: (French, English)
_WORDS: Final[dict[str, tuple[str, str]]] = {
    "heading": ("Contrôle des clauses de sobriété", "Check of the frugality clauses"),
    "labelled": ("{name} : {said}", "{name}: {said}"),
    "buyer": ("Acheteur", "Buyer"),
    "supplier": ("Titulaire", "Supplier"),
    "service": ("Service", "Service"),
    "period": ("Période", "Period"),
    "overall": ("Conclusion", "Conclusion"),
    "cannot_be_judged": ("ne peut être jugée", "cannot be judged"),
    "all_kept": ("toutes les clauses sont respectées", "all clauses are kept"),
    "all_broken": ("au moins une clause n’est pas respectée", "at least one clause is broken"),
    "all_cannot_be_judged": (
        "aucune clause n’est enfreinte de façon sûre, mais toutes ne peuvent pas être jugées",
        "no clause is broken for sure, but not all can be judged",
    ),
    "kept_surely": ("respectée, à coup sûr", "kept, for sure"),
    "kept_probably": ("respectée, probablement", "kept, probably"),
    "broken_surely": ("non respectée, à coup sûr", "broken, for sure"),
    "unproved": ("ne peut être jugée : probablement respectée, sans preuve", "cannot be judged: probably kept, without proof"),
    "clause": ("Clause", "Clause"),
    "promise": ("Engagement", "Promise"),
    "found": ("Constat", "Found"),
    "verdict": ("Verdict", "Verdict"),
    "at_most": ("{figure} : au plus {limit}", "{figure}: at most {limit}"),
    "at_least": ("{figure} : au moins {limit}", "{figure}: at least {limit}"),
    "energy_period": ("énergie par « {unit} », sur toute la période", "energy per “{unit}”, over the whole period"),
    "carbon_period": (
        "gaz à effet de serre par « {unit} », sur toute la période",
        "greenhouse gases per “{unit}”, over the whole period",
    ),
    "energy_p95": (
        "énergie par « {unit} » pendant son traitement, pour 95 sur 100 d’entre elles",
        "energy per “{unit}” while it ran, for 95 in 100 of them",
    ),
    "carbon_p95": (
        "gaz à effet de serre par « {unit} » pendant son traitement, pour 95 sur 100 d’entre elles",
        "greenhouse gases per “{unit}” while it ran, for 95 in 100 of them",
    ),
    "measured": ("part mesurée de l’énergie", "share of the energy that is measured"),
    "quality": ("qualité moyenne des réponses, de 0 à 1", "mean quality of answers, from 0 to 1"),
    "quality_of": ("qualité moyenne des réponses, de 0 à 1 ({metric})", "mean quality of answers, from 0 to 1 ({metric})"),
    "degraded": (
        "demandes servies par un modèle plus petit ou coupées, pour tenir un budget",
        "requests answered by a smaller model or cut short, to keep a budget",
    ),
    "refused": ("demandes refusées pour tenir un budget", "requests refused to keep a budget"),
    "failed": ("demandes en échec", "failed requests"),
    "degraded or refused": (
        "demandes dégradées, coupées ou refusées pour tenir un budget",
        "requests degraded, cut short or refused to keep a budget",
    ),
    "unknown_value": ("inconnu", "unknown"),
    "withheld": ("non communiqué", "not told"),
    "of_units": ("sur {n} unités rendues", "of {n} units delivered"),
    "of_requests": ("sur {n} demandes", "of {n} requests"),
    "of_scores": ("sur {n} notes", "of {n} scores"),
    "r_not_over": ("la période n’est pas terminée", "the period is not over"),
    "r_not_covered": (
        "la mesure ne couvre que {covered} de la période ; il en faut {least}",
        "only {covered} of the period was metered; {least} is needed",
    ),
    "r_too_few": ("{counted} seulement ; il en faut {least}", "only {counted}; {least} are needed"),
    "r_hardly_any": (
        "trop peu pour en dire quoi que ce soit ; il en faut {least}",
        "too few to tell anything of them; {least} are needed",
    ),
    "r_no_unit": ("aucune unité « {unit} » n’a été rendue", "no “{unit}” was delivered"),
    "r_no_score": ("aucune note de qualité", "no score of quality"),
    "r_metrics": (
        'notes de plusieurs mesures ({metrics}) : nommez-en une, metric = "…"',
        'scores of several metrics ({metrics}): name one, metric = "…"',
    ),
    "r_unknown": ("le chiffre est inconnu", "the figure is unknown"),
    "r_rolled": (
        "{count} mesures ne sont plus gardées une à une : vérifiez plus tôt, ou augmentez raw_days",
        "{count} readings are no longer kept one by one: check earlier, or raise raw_days",
    ),
    "r_too_many_unknown": (
        "plus d’une demande sur vingt est sans chiffre",
        "more than one request in twenty has no figure",
    ),
    "r_straddles": ("l’intervalle du chiffre contient la limite", "the figure’s interval holds the limit"),
    "r_unknown_requests": (
        "{count} demandes sans chiffre, comptées au pire et au mieux dans l’intervalle",
        "{count} requests without a figure, taken at their worst and best in the interval",
    ),
    "r_lost": (
        "{count} mesures ont été perdues : les unités rendues sont sous-estimées",
        "{count} readings were lost: units delivered are undercounted",
    ),
    "r_remote": (
        "sans ce qui a été dépensé par des modèles hébergés ailleurs",
        "without what models hosted elsewhere have spent",
    ),
    "r_scores": ("{scores} notes pour {units} unités rendues", "{scores} scores for {units} units delivered"),
    "reading_title": ("Comment lire ces verdicts", "How to read these verdicts"),
    "how_interval": (
        "Chaque chiffre a un intervalle. Tout l’intervalle dans la limite : respectée à coup sûr. Le milieu dans la limite, un "
        "bout au-delà : probablement respectée. Le milieu au-delà, un bout dans la limite : on ne peut pas trancher. Tout "
        "l’intervalle au-delà : non respectée à coup sûr.",
        "Each figure has an interval. All of it within the limit: kept for sure. Its middle within, one end beyond: probably "
        "kept. Its middle beyond, one end within: it cannot be told. All of it beyond: broken for sure.",
    ),
    "how_probable": (
        "Pour ce contrat, « probablement respectée » compte comme respectée ; n’est enfreinte que la clause qui l’est à coup "
        "sûr.",
        "For this contract, “probably kept” counts as kept; a clause is broken only where it is broken for sure.",
    ),
    "how_sure": (
        "Pour ce contrat, seule une clause respectée à coup sûr compte comme respectée ; n’est enfreinte que celle qui l’est à "
        "coup sûr.",
        "For this contract, only a clause kept for sure counts as kept; one is broken only where it is broken for sure.",
    ),
    "how_period": (
        "Les chiffres « sur toute la période » comptent tout : demandes abouties, en échec ou refusées, veille de la part de "
        "serveur réservée, démarrage, fabrication. Ceux « pendant son traitement » ne comptent que le temps de la demande. "
        "L’énergie est celle des équipements, avant celle du bâtiment (PUE) ; les gaz à effet de serre sont comptés après.",
        "Figures “over the whole period” count everything: requests that ended well, failed or were refused, idle of the share "
        "of the server held, start-up, manufacture. Those “while it ran” count the time of the request alone. Energy is that of "
        "the equipment, before the building’s (PUE); greenhouse gases are counted after it.",
    ),
    "sources_title": ("D’où viennent ces chiffres", "Where these figures come from"),
    "covered": ("Part de la période couverte par la mesure", "Share of the period that was metered"),
    "requests": ("Demandes (en échec, refusées)", "Requests (failed, refused)"),
    "tier": ("Nature des joules, part mesurée", "Kind of joules, share measured"),
    "factors": ("Facteurs d’émission", "Emission factors"),
    "methods": ("Méthodes de calcul", "Methods of calculation"),
    "boundary": ("Périmètre", "Boundary"),
    "lost": ("Mesures et relevés perdus", "Readings and ticks lost"),
    "contract_sha": ("Empreinte du fichier de clauses (SHA-256)", "Fingerprint of the clauses’ file (SHA-256)"),
    "journal": ("Journal", "Journal"),
    "made": ("Établi par", "Made by"),
    "on": ("le {when}", "on {when}"),
    "too_few_to_tell": (
        "Trop peu de demandes dans la période pour en dire davantage.",
        "Too few requests in the period to tell more of them.",
    ),
    "skip": ("Aller à la conclusion", "Go to the conclusion"),
}


def words(key: str, lang: Lang, **values: object) -> str:
    """The text of ``key`` with its blanks filled; KeyError for a key nobody wrote."""
    french, english = _WORDS[key]
    return (typeset(french) if lang == "fr" else english).format(**values)
