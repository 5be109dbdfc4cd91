"""The words of the notice for citizens, French and English side by side; the typographer's spaces are written in."""

from __future__ import annotations

from typing import Final

from .document import Code, Language

_WORDS: Final[dict[str, tuple[str, str]]] = {
    "title": ("{name}\u00a0: ce que l’IA y fait et ce qu’elle coûte", "{name}: what AI does here and what it costs"),
    "lead": ("Ce service utilise l’intelligence artificielle (IA).", "This service uses artificial intelligence (AI)."),
    "lead_pilot": (
        "Ce service essaie l’intelligence artificielle (IA)\u00a0: il est en test.",
        "This service is trying out artificial intelligence (AI): it is a pilot.",
    ),
    "lead_stopped": (
        "Ce service utilisait l’intelligence artificielle (IA). Il est arrêté.",
        "This service used artificial intelligence (AI). It has been stopped.",
    ),
    "languages": ("Langue de la page", "Language of the page"),
    # what AI does
    "does": ("Ce que l’IA fait ici", "What AI does here"),
    "purpose_unknown": ("Le service n’a pas encore dit à quoi l’IA sert.", "The service has not yet said what AI is for."),
    "users_agents": ("Ce sont des agents publics qui s’en servent.", "Public servants use it."),
    "users_public": ("C’est le public qui s’en sert.", "The public uses it."),
    "users_both": ("Le public et des agents publics s’en servent.", "The public and public servants use it."),
    "contribution_none": ("L’IA ne prend part à aucune décision.", "AI takes no part in any decision."),
    "contribution_partial": (
        "L’IA aide à préparer des décisions. Une personne décide.",
        "AI helps to prepare decisions. A person decides.",
    ),
    "contribution_full": ("L’IA prend des décisions sans qu’une personne intervienne.", "AI takes decisions without a person."),
    "contribution_unknown": (
        "Le service n’a pas encore dit si l’IA prend part à des décisions.",
        "The service has not yet said whether AI takes part in decisions.",
    ),
    "why": ("Pourquoi l’IA\u00a0: ", "Why AI: "),
    "oversight": ("Qui surveille l’IA\u00a0: ", "Who watches over it: "),
    "rights": (
        "Si une décision vous concerne, vous pouvez demander les règles que suit l’outil, et comment elles ont été appliquées à "
        "votre cas (code des relations entre le public et l’administration, article L.\u00a0311‑3‑1).",
        "If a decision is about you, you may ask which rules the tool follows and how they were applied to your case "
        "(French code of relations between the public and the administration, article L.\u00a0311‑3‑1).",
    ),
    "rules": ("Les règles que suit l’outil", "The rules that the tool follows"),
    "models": ("Modèles d’IA utilisés\u00a0: {}.", "AI models used: {}."),
    "model_open": ("ses poids sont ouverts", "open weights"),
    "model_closed": ("ses poids ne sont pas ouverts", "closed weights"),
    "suppliers": ("Fournisseurs\u00a0: {}.", "Suppliers: {}."),
    # what it costs
    "costs": ("Ce que cela coûte", "What it costs"),
    "period": ("Période comptée\u00a0: du {begin} au {end}.", "Period counted: {begin} to {end}."),
    "per_unit": ("Pour {one}", "For {one}"),
    "per_thousand": ("pour mille, {} d’électricité", "for a thousand, {} of electricity"),
    "per_year": ("Pour un an", "For a year"),
    "of_electricity": ("{} d’électricité", "{} of electricity"),
    "of_co2": ("{} de CO₂", "{} of CO₂"),
    "pace": ("si l’usage reste celui de cette période", "if use stays as it was in this period"),
    "year_unknown": (
        "Les relevés ne couvrent pas assez de la période pour parler d’une année.",
        "The records do not cover enough of the period to speak of a year.",
    ),
    "each_unknown": ("Rien n’a été délivré pendant cette période.", "Nothing was delivered in this period."),
    "total": (
        "Sur toute la période\u00a0: {energy}, {carbon}, pour {requests} demandes environ.",
        "Over the whole period: {energy}, {carbon}, for about {requests} requests.",
    ),
    "means": (
        "Nous donnons deux bornes, car personne ne connaît le chiffre exact\u00a0: nous pensons qu’il est entre les deux, sans "
        "pouvoir le garantir. Le CO₂ réunit tous les gaz à effet de serre. Il compte l’électricité et une part de la fabrication "
        "des machines.",
        "We give two ends because nobody knows the exact figure: we believe that it lies between them, and cannot promise it. "
        "CO₂ stands for all greenhouse gases. It counts electricity and a part of the making of the machines.",
    ),
    "whole": (
        "Tout est divisé par ce qui a été délivré\u00a0: l’attente des machines et les demandes ratées sont comptées aussi.",
        "Everything is divided by what was delivered: machines that wait and requests that fail are counted too.",
    ),
    "tier_measured": (
        "L’électricité est lue sur des capteurs des machines.",
        "Electricity is read from sensors in the machines.",
    ),
    "tier_modelled": (
        "L’électricité est estimée par un calcul. Elle n’est pas mesurée par un capteur.",
        "Electricity is estimated by a calculation. It is not measured by a sensor.",
    ),
    "tier_sourced": (
        "L’électricité est celle qu’un fournisseur indique. Nous ne l’avons pas mesurée.",
        "Electricity is what a supplier says. We have not measured it.",
    ),
    "kettle": (
        "Pour comparer\u00a0: l’électricité d’un an suffirait à chauffer {litres} d’eau de 15 à 100\u00a0°C (il faut "
        "4,2\u00a0kilojoules par litre et par degré, sans compter les pertes).",
        "To compare: the electricity of a year would heat {litres} of water from 15 to 100\u00a0°C (a litre takes "
        "4.2\u00a0kilojoules per degree, losses not counted).",
    ),
    "covered": ("Les relevés couvrent {} de la période.", "The records cover {} of the period."),
    "none_too_few": (
        "Il y a eu trop peu de demandes pendant cette période pour publier un chiffre. Il dirait ce qu’une personne a fait. "
        "Le prochain chiffre viendra avec une période plus remplie.",
        "There were too few requests in this period for a figure to be published. It would tell what one person did. The next "
        "figure will come with a fuller period.",
    ),
    "none_no_journal": (
        "Ce service ne garde pas encore les relevés qu’il faut pour donner un chiffre.",
        "This service does not yet keep the records that a figure needs.",
    ),
    "none_no_books": (
        "Il n’y a pas encore de relevés pour cette période. Les premiers chiffres viendront après un mois complet.",
        "There are no records of this period yet. The first figures will come after a whole month.",
    ),
    # what is not counted
    "not_counted": ("Ce qui n’est pas compté", "What is not counted"),
    "the network": ("le réseau entre vous et le service", "the network between you and the service"),
    "the devices of users": ("votre téléphone ou votre ordinateur", "your phone or computer"),
    "the training of models": ("l’entraînement des modèles d’IA", "the training of the AI models"),
    "the development of the service": ("le travail de ceux qui ont fait le service", "the work of those who made the service"),
    "elsewhere": (
        "les modèles d’IA qui tournent chez un fournisseur\u00a0: il indique environ {} d’électricité pour la période",
        "AI models that run at a supplier’s: about {} of electricity over the period by their account",
    ),
    "training": ("Entraînement de {model}\u00a0: ", "Training of {model}: "),
    # the budget
    "budget": ("La limite que le service se donne", "The limit that the service keeps"),
    "no_budget": ("Ce service ne s’est pas donné de limite.", "This service keeps no limit."),
    "limit": ("{limit} par {per}", "{limit} per {per}"),
    "watched": (" (pour l’instant, cette limite est seulement observée)", " (for now this limit is only watched)"),
    "keyed": ("pour chaque {}", "for each {}"),
    "acted": (
        "Atteinte pendant la période\u00a0: environ {what}",
        "Reached in the period: about {what}",
    ),
    "acted_refused": ("{n} demandes refusées", "{n} requests refused"),
    "acted_degraded": ("{n} demandes confiées à un modèle plus petit", "{n} requests given to a smaller model"),
    "and": (" et ", " and "),
    "limit_requests": ("demandes", "requests"),
    "limit_tokens": ("jetons (morceaux de mots)", "tokens (pieces of words)"),
    "limit_J": ("joules d’électricité", "joules of electricity"),
    "limit_kJ": ("kilojoules d’électricité", "kilojoules of electricity"),
    "limit_MJ": ("mégajoules d’électricité", "megajoules of electricity"),
    "limit_Wh": ("wattheures d’électricité", "watt-hours of electricity"),
    "limit_kWh": ("kilowattheures d’électricité", "kilowatt-hours of electricity"),
    "limit_gCO2e": ("grammes de CO₂", "grams of CO₂"),
    "limit_kgCO2e": ("kilogrammes de CO₂", "kilograms of CO₂"),
    "limit_CPU-s": ("secondes de calcul", "seconds of computing"),
    "limit_GPU-s": ("secondes de carte graphique", "seconds of graphics card"),
    "not_acted": ("Elle n’a pas été atteinte pendant la période, ou presque pas", "It was not reached in the period, or hardly"),
    "minute": ("minute", "minute"),
    "hour": ("heure", "hour"),
    "day": ("jour", "day"),
    "week": ("semaine", "week"),
    "month": ("mois", "month"),
    "route": ("partie du service", "part of the service"),
    "model": ("modèle", "model"),
    "tenant": ("compte", "account"),
    # people
    "people": ("S’adresser à une personne", "Talk to a person"),
    "answerable": ("Qui répond de ce service\u00a0: ", "Who answers for this service: "),
    "contact": ("Nous écrire\u00a0: ", "Contact: "),
    "alternative": ("Sans passer par l’IA\u00a0: ", "Without AI: "),
    "alternative_link": ("Être servi par une personne", "Be served by a person"),
    "people_unknown": (
        "Le service n’a pas encore dit comment être servi par une personne.",
        "The service has not yet said how to be served by a person.",
    ),
    "answerable_unknown": ("Le service n’a pas encore dit qui en répond.", "The service has not yet said who answers for it."),
    # foot
    "dated": ("Page établie le {declared}, valable jusqu’au {until}.", "Written on {declared}, valid until {until}."),
    "document": ("Les mêmes chiffres, pour les machines et les experts", "The same figures, for machines and experts"),
    "study": ("L’étude d’impact", "The impact study"),
    "design": ("La déclaration d’écoconception", "The ecodesign statement"),
    "etalab-2.0": ("Licence Ouverte 2.0 d’Etalab", "Etalab Open Licence 2.0"),
    "licence": ("Réutilisation libre\u00a0: {}.", "Free to reuse: {}."),
    "method": ("Méthode\u00a0: {}.", "Method: {}."),
    # functional units
    "unit_request": ("une demande traitée", "one request answered"),
    "unit_answer": ("une réponse", "one answer"),
    "unit_letter": ("un courrier", "one letter"),
    "unit_page": ("une page", "one page"),
    "unit_document": ("un document", "one document"),
    "unit_minute": ("une minute", "one minute"),
    "unit_token": ("un jeton (un morceau de mot)", "one token (a piece of a word)"),
    "unit_other": ("une unité «\u00a0{}\u00a0»", "one unit of “{}”"),
}


class NoticeWords:
    """``said("key", name=value)``: one text in one language."""

    def __init__(self, lang: Language) -> None:
        self.lang: Language = lang
        self._place = 0 if lang == "fr" else 1

    def __call__(self, key: str, *parts: object, **named: object) -> str:
        """The text with its blanks filled; KeyError for a key nobody wrote."""
        return _WORDS[key][self._place].format(*parts, **named)

    def known(self, key: str) -> bool:
        """Whether there is such a text."""
        return key in _WORDS

    def absent(self, code: Code) -> str:
        """Why there are no figures."""
        return self(f"none_{code}")


def unit_words(name: str, said: NoticeWords) -> str:
    """One of a functional unit: "une réponse"; a name of the service's own in quotes."""
    key = f"unit_{name.removesuffix('s')}"
    return said(key) if said.known(key) and name != "other" else said("unit_other", name)
