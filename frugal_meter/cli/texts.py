"""The words of the command line, in French and in English, and figures as each language writes them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

from ..errors import ConfigurationError
from ..exporters import page_figures
from ..exporters.page_texts import LANGUAGES, Lang
from ..records import Interval, Tier

#: key: (French, English)
_WORDS: Final[dict[str, tuple[str, str]]] = {
    # doctor: the verdict
    "doctor": ("ce que cette machine peut mesurer", "what this machine can measure"),
    "verdict_measured": ("MESURÉ", "MEASURED"),
    "verdict_modelled": ("MODÉLISÉ SEULEMENT", "MODELLED ONLY"),
    "verdict_unusable": ("INUTILISABLE EN L'ÉTAT", "NOT USABLE AS IT IS"),
    "says_measured": (
        "Des capteurs de cette machine sont lus ({measured}). Part mesurée de sa puissance : {share}. "
        "Niveau que porteront les requêtes : {tier}.",
        "Sensors of this machine are read ({measured}). Measured share of its power: {share}. "
        "Tier that requests will carry: {tier}.",
    ),
    "says_modelled": (
        "Aucun capteur d'énergie n'est lisible ici : les joules viennent d'un modèle de puissance, vrais à leur intervalle près.",
        "No energy sensor can be read here: joules come from a power model, true to within their interval.",
    ),
    "says_unknown_cpu": (
        "Processeur inconnu, et aucune puissance déclarée : l'intervalle est celui de toute la table. "
        "Déclarez sa puissance (voir plus bas).",
        "Unknown CPU and no declared watts: its interval is that of the whole table. Declare its watts (see below).",
    ),
    "says_required": (
        "La source exigée ({source}) manque : un compteur ainsi réglé ne démarre pas.",
        "The required source ({source}) is missing: a meter set so does not start.",
    ),
    # doctor: the machine
    "machine": ("Machine", "Machine"),
    "cpu": ("Processeur", "CPU"),
    "threads": ("{n} fils d'exécution", "{n} threads"),
    "threads_1": ("1 fil d'exécution", "1 thread"),
    "virtual": ("machine virtuelle", "virtual machine"),
    "relation_exact": ("dans la table de puissances", "in the table of watts"),
    "relation_relative": ("table de puissances : son plus proche parent", "table of watts: its nearest relative"),
    "relation_vendor": ("table de puissances : les serveurs de son fabricant", "table of watts: servers of its vendor"),
    "relation_unknown": ("inconnu de la table de puissances", "not in the table of watts"),
    "relation_declared": ("puissance déclarée", "declared watts"),
    "cpu_time": ("Temps processeur", "CPU time"),
    "scope_host": ("de toute la machine ({n} fils vus par /proc/stat)", "of the whole machine ({n} threads in /proc/stat)"),
    "scope_container": (
        "de ce conteneur seul ({n} fils) : les autres programmes de l'hôte sont invisibles",
        "of this container only ({n} threads): other programs of the host are unseen",
    ),
    "scope_unknown": ("portée inconnue ({n} fils)", "of unknown scope ({n} threads)"),
    "quota": ("Quota cgroup", "cgroup quota"),
    "quota_none": ("aucun", "none"),
    "quota_cpus": ("{n} CPU", "{n} CPUs"),
    "slice": ("Part du service", "Service's slice"),
    "slice_declared": ("{share}, déclarée (host_share)", "{share}, declared (host_share)"),
    "slice_quota": ("{share}, quota cgroup ÷ CPU de la machine", "{share}, cgroup quota ÷ CPUs of the machine"),
    "slice_use": (
        "son temps processeur ÷ celui de la machine, à chaque relevé",
        "its CPU time ÷ the machine's, at each tick",
    ),
    # doctor: energy
    "energy": ("Énergie", "Energy"),
    "component": ("Composant", "Component"),
    "tier": ("Niveau", "Tier"),
    "idle": ("Au repos", "Idle"),
    "full": ("Pleine charge", "Full load"),
    "now": ("Maintenant", "Now"),
    "component_cpu": ("processeur", "CPU"),
    "component_dram": ("mémoire", "memory"),
    "component_board": ("reste", "rest"),
    "component_gpu": ("GPU", "GPU"),
    "component_node": ("serveur entier", "whole server"),
    "total": ("total", "total"),
    "tier_measured": ("mesuré", "measured"),
    "tier_modelled": ("modélisé", "modelled"),
    "tier_sourced": ("repris", "sourced"),
    "tier_exact": ("compté", "counted"),
    "full_sensor": ("par le capteur", "by its sensor"),
    "unknown": ("inconnu", "unknown"),
    "share_unknown": ("inconnue", "unknown"),
    "now_still": ("compteur immobile", "counter stands still"),
    "now_gap": ("à confirmer", "not attributable"),
    "now_silent": ("sans réponse", "no answer"),
    "exact": ("exact", "exact"),
    "interval": ("{low} à {high}", "{low} to {high}"),
    "rest_means": (
        "« reste » : carte mère, ventilateurs, alimentation, disques, réseau.",
        '"rest": board, fans, power supply, disks, network.',
    ),
    "idle_baseline": ("Base au repos", "Idle baseline"),
    "idle_modelled": ("modélisée", "modelled"),
    "in_file": ("dans frugal.toml, sous [meter] :", "in frugal.toml, under [meter]:"),
    "idle_until": ("modélisée, jusqu'à ce que le repos soit observé", "modelled, until idleness is observed"),
    "idle_configured": ("configurée (idle_watts)", "configured (idle_watts)"),
    "idle_observed-later": ("inconnue tant que le repos n'est pas observé", "unknown until idleness is observed"),
    "origins": ("Origine", "Origin"),
    "assumptions": ("Hypothèses", "Assumptions"),
    # doctor: carbon
    "carbon": ("Carbone", "Carbon"),
    "no_zone": (
        "Aucune zone donnée. Elle est nécessaire au carbone et n'est jamais devinée : seule l'énergie est montrée.",
        "No zone was given. Carbon needs one and it is never guessed: only energy is shown.",
    ),
    "factor": ("Facteur", "Factor"),
    "method": ("Méthode", "Method"),
    "stale": ("PÉRIMÉ : il décrit {year}", "STALE: it describes {year}"),
    "spread": ("Chiffres publiés", "Published range"),
    "factor_source": ("Sa source", "Its source"),
    "others": ("Autres chiffres", "Other figures"),
    "others_none": ("aucun n'est fourni", "none is bundled"),
    "pue": ("PUE", "PUE"),
    "pue_default": ("valeur par défaut, non déclarée", "a default, not declared"),
    "embodied": ("Fabrication", "Embodied"),
    "embodied_is": ("{te} sur {years} ans", "{te} over {years} years"),
    "embodied_host": ("la machine entière", "the whole machine"),
    "embodied_vm": ("la part de cette machine virtuelle", "this virtual machine's part"),
    "embodied_default": ("valeur par défaut", "a default"),
    "embodied_none": ("non compté", "not counted"),
    "carbon_now": ("Maintenant", "Now"),
    "per_hour": (
        "{figure} par heure ({bounds}), {tier}, hors fabrication",
        "{figure} per hour ({bounds}), {tier}, embodied apart",
    ),
    "scope_direct": ("combustion directe", "direct combustion"),
    "scope_lifecycle": ("cycle de vie", "lifecycle"),
    "mix_production": ("mix de production", "production mix"),
    "mix_consumption": ("mix de consommation", "consumption mix"),
    "licence": ("licence {name}", "licence {name}"),
    "basis_location": ("fondé sur le lieu", "location-based"),
    "basis_market": ("fondé sur le contrat", "market-based"),
    # factors
    "factor_zone": ("Zone", "Zone"),
    "factor_when": ("Décrit", "Describes"),
    "factor_year": ("année", "year"),
    "factor_nature": ("Nature", "Nature"),
    "factor_dataset": ("Jeu de données", "Dataset"),
    "factor_licence": ("Licence", "Licence"),
    "factor_flags": ("À savoir", "Flags"),
    "stale_short": ("PÉRIMÉ", "STALE"),
    "factors_more": ("… et {n} autres : --all, ou --zone", "… and {n} more: --all, or --zone"),
    "compare_head": (
        "{energy} sous chaque facteur publié de {zone} (énergie seule, sans PUE ni fabrication) :",
        "{energy} under each published factor of {zone} (energy alone, without PUE or embodied):",
    ),
    "compare_ratio": (
        "{n} facteurs publiés, du plus bas au plus haut × {ratio}",
        "{n} published factors, lowest to highest × {ratio}",
    ),
    "imported": (
        '{path} : {yearly} facteurs annuels, {hourly} horaires, zones {zones} ; à donner au compteur : factor_pack = "{path}"',
        '{path}: {yearly} yearly factors, {hourly} of an hour, zones {zones}; give it to the meter: factor_pack = "{path}"',
    ),
    # doctor: budgets
    "budgets": ("Budgets", "Budgets"),
    "budgets_none": ("Aucun dans la configuration.", "None in the configuration."),
    "budget_line": ("{limit} par {per}", "{limit} per {per}"),
    "by_key": (", un par {keys}", ", one per {keys}"),
    "key_route": ("route", "route"),
    "key_model": ("modèle", "model"),
    "key_tenant": ("usager authentifié", "tenant"),
    "window_minute": ("minute", "minute"),
    "window_hour": ("heure", "hour"),
    "window_day": ("jour", "day"),
    "window_week": ("semaine", "week"),
    "window_month": ("mois", "month"),
    "state_enforced": ("peut refuser, sur un chiffre {tier}", "can refuse, on a {tier} figure"),
    "state_watches": ("observe seulement (enforce = false), chiffre {tier}", "only watches (enforce = false), {tier} figure"),
    "state_cannot-refuse": (
        "NE PEUT PAS REFUSER ici : il exige un chiffre {required}, celui-ci est {tier} ; il avertit et dégrade",
        "CANNOT REFUSE here: it requires a {required} figure and this one is {tier}; it warns and degrades",
    ),
    "state_cannot-count": (
        "NE PEUT RIEN COMPTER ici : aucune source ne donne ce chiffre ; un compteur ainsi réglé ne démarre pas",
        "CANNOT COUNT here: no source gives this figure; a meter set so does not start",
    ),
    # budget
    "column_budget": ("budget", "budget"),
    "column_used": ("consommé et réservé", "settled and reserved"),
    "column_level": ("niveau", "level"),
    "column_state": ("état", "state"),
    "column_reset": ("remise à zéro", "reset"),
    "column_overrides": ("dérogations", "overrides"),
    "fullest": (" (le plus plein de {n}, par {keys})", " (fullest of {n}, per {keys})"),
    "used_of": ("{used} sur {limit} ({share})", "{used} of {limit} ({share})"),
    "level_ok": ("dans le budget", "within budget"),
    "level_warn": ("bientôt atteint", "nearly reached"),
    "level_degrade": ("modèle plus petit", "smaller model"),
    "level_throttle": ("ralenti", "slowed down"),
    "level_refuse": ("épuisé : refuse", "spent: refuses"),
    "level_would": ("épuisé, refuserait", "spent, would refuse"),
    "in_force": ("appliqué", "enforced"),
    "in_force_from": ("ne refuse que sur un chiffre {tier} (voir doctor)", "refuses on {tier} figures only (see doctor)"),
    "in_shadow": ("observe seulement (enforce = false)", "only watches (enforce = false)"),
    "overrides_head": ("Dérogations", "Overrides"),
    "override_holds": (
        "n° {id}, {budget} : passe jusqu'au {until} ({who} : {why})",
        "no. {id}, {budget}: passes until {until} ({who}: {why})",
    ),
    "override_over": ("n° {id}, {budget} : échue le {end} ({who} : {why})", "no. {id}, {budget}: ended {end} ({who}: {why})"),
    "override_revoked": (
        "n° {id}, {budget} : retirée le {end} ({who} : {why})",
        "no. {id}, {budget}: revoked {end} ({who}: {why})",
    ),
    "granted": (
        "Les processus du service le savent dans les 3 secondes. Ce qui passe reste compté, débité et journalisé.",
        "The service's workers know within 3 seconds. What passes is still metered, charged and logged.",
    ),
    "unmatched": (
        "Aucune requête ne lui a correspondu ({match}) depuis le {since} : à vérifier",
        "Has matched nothing ({match}) since {since}: worth a look",
    ),
    "unmatched_yet": ("Aucune requête ne lui a encore correspondu ({match})", "Has matched nothing yet ({match})"),
    "log_head": ("Dernières décisions", "Last decisions"),
    "log_empty": ("Aucune décision dans le journal.", "No decision in the log."),
    "log_figures": (
        "demande {estimate}, consommé {settled}, réservé {reserved}, limite {limit}",
        "asks {estimate}, settled {settled}, reserved {reserved}, limit {limit}",
    ),
    "action_admit": ("admis", "admit"),
    "action_warn": ("averti", "warn"),
    "action_degrade": ("dégradé", "degrade"),
    "action_throttle": ("mis en attente", "throttle"),
    "action_refuse": ("refusé", "refuse"),
    "action_would_refuse": ("aurait refusé", "would refuse"),
    "action_cut": ("coupé", "cut"),
    "action_override": ("passé par dérogation", "override"),
    "action_grant": ("dérogation accordée", "grant"),
    "action_revoke": ("dérogation retirée", "revoke"),
    # doctor: what next
    "improve": ("Pour faire mieux", "To do better"),
    "improve_none": (
        "Rien à ajouter : tout ce que cette machine sait est lu.",
        "Nothing to add: all that this machine knows is read.",
    ),
    # calibrate
    "calibrating": (
        "étalonnage, {seconds} s environ ; la machine doit être au calme",
        "calibrating, about {seconds} s; the machine should be quiet",
    ),
    "calibrated": (
        "d'un travail à l'autre, × {low} à × {high} ; à donner au compteur : calibration = \"FICHIER\"",
        'from one kind of work to another, × {low} to × {high}; give it to the meter: calibration = "FILE"',
    ),
    # agent
    "agent_serving": ("l'agent lit {sources} et répond à {addresses}", "the agent reads {sources} and answers at {addresses}"),
    # run
    "run_serving": ("{service} est mesuré. Ctrl-C pour arrêter.", "{service} is metered. Ctrl-C stops it."),
    "run_disabled": ("FRUGAL_DISABLED est posé : rien n'est mesuré.", "FRUGAL_DISABLED is set: nothing is metered."),
    "run_app": ("application", "application"),
    "run_page": ("page en direct", "live page"),
    "run_metrics": ("métriques", "metrics"),
    "account": ("Le compte de {service}, {seconds} s", "The account of {service}, {seconds} s"),
    "requests": ("requêtes", "requests"),
    "outcome_ok": ("{n} servies", "{n} ok"),
    "outcome_error": ("{n} en erreur", "{n} errors"),
    "outcome_client_disconnect": ("{n} quittées", "{n} left by the client"),
    "outcome_cancelled": ("{n} annulées", "{n} cancelled"),
    "outcome_refused": ("{n} refusées", "{n} refused"),
    "their_energy": ("leur énergie", "their energy"),
    "of_computing": ("dont {figure} pour leur calcul", "{figure} of it for their computing"),
    "without_figure": ("{n} sans chiffre", "{n} without a figure"),
    "their_carbon": ("leur carbone", "their carbon"),
    "the_machine": ("la machine", "the machine"),
    "of_which": ("dont", "of which"),
    "bucket_requests": ("requêtes", "requests"),
    "bucket_late": ("après réponse", "after the answer"),
    "bucket_overhead": ("service", "service"),
    "bucket_other": ("autres programmes", "other programs"),
    "bucket_idle": ("repos", "idle"),
    "bucket_gap": ("non attribuable", "not attributable"),
    "books": ("les comptes", "the books"),
    "journal_sound": ("sain : la structure et les comptes tombent juste", "sound: its structure and its books close"),
    "journal_exported": ("{count} enregistrements", "{count} records"),
    "journal_damaged": ("une partie n'a pas pu être lue : {damage}", "part of it could not be read: {damage}"),
    "p_when": ("Période (UTC)", "Period (UTC)"),
    "p_covered": ("Part du temps mesurée", "Share of the time that was metered"),
    "p_requests": ("Requêtes (en échec / refusées)", "Requests (failed / refused)"),
    "p_units": ("Unités fonctionnelles rendues", "Functional units delivered"),
    "p_delivered": ("  requêtes abouties", "  requests that ended well"),
    "p_failed": ("  requêtes en échec", "  failed requests"),
    "p_refused": ("  requêtes refusées", "  refused requests"),
    "p_late": ("  travail après la réponse", "  work after the answer"),
    "p_overhead": ("  fonctionnement du service, démarrage compris", "  the service's own upkeep, start-up included"),
    "p_slice": ("  veille de la part de serveur réservée", "  idle of the share of the server held"),
    "p_carbon": ("Carbone", "Carbon"),
    "p_per_unit": ("Par unité rendue (chiffre à citer)", "Per unit delivered (the figure to cite)"),
    "p_mean": ("Moyenne d'une requête, pendant son traitement", "Mean of a request, while it ran"),
    "p_quality": ("Qualité (notes)", "Quality (scores)"),
    "p_none": ("aucune note", "no score"),
    "p_metrics": ("notes de plusieurs mesures ({names}) : pas de moyenne", "scores of several metrics ({names}): no mean"),
    "p_few_scores": ("trop peu de notes pour être publiées", "too few scores to be published"),
    "p_tier": ("Nature des joules · part mesurée", "Tier · share measured"),
    "p_factors": ("Facteurs d'émission", "Emission factors"),
    "books_close": (
        "tombent juste : {nj} nJ d'écart (comptabilité, pas précision)",
        "close: {nj} nJ off (bookkeeping, not accuracy)",
    ),
    "books_open": ("NE TOMBENT PAS JUSTE : {nj} nJ d'écart, à signaler", "DO NOT CLOSE: {nj} nJ off, please report it"),
    # explain
    "reading": ("Mesure", "Reading"),
    "x_settled": ("Chiffres définitifs.", "Settled: the figures are final."),
    "x_provisional": (
        "Chiffres provisoires : son temps processeur aux derniers joules par seconde connus ; le prochain relevé les remplace.",
        "Provisional: its CPU time at the last known joules per CPU-second; the next tick replaces them.",
    ),
    "x_elsewhere": ("Énergie ailleurs", "Energy elsewhere"),
    "x_carbon": ("Gaz à effet de serre", "Greenhouse gases"),
    "x_energy_head": ("Énergie, en joules avant PUE", "Energy, in joules before PUE"),
    "x_cpu": ("  temps processeur {cpu} s, durée {wall} s", "  CPU time {cpu} s, wall time {wall} s"),
    "x_dynamic": ("de calcul", "of computing"),
    "x_idle": ("de repos", "of idle"),
    "x_no_energy": ("inconnue : aucune source de joules n'a pu être lue", "unknown: no source of joules could be read"),
    "x_pending": ("aucun relevé encore : {figure}", "no tick has billed it yet: {figure}"),
    "x_host": ("de toute la machine pendant ces relevés", "of the whole machine over those ticks"),
    "x_bounds": (
        "bornes {low} à {high} J : celles des sources, élargies par la clé de répartition ({method})",
        "bounds {low} to {high} J: those of the sources, widened by the sharing key ({method})",
    ),
    "x_idle_source": ("puissance au repos : {source}", "idle watts: {source}"),
    "x_elsewhere_head": (
        "Modèles ailleurs, en joules avant leur PUE ; jamais ajoutés à ceux de cette machine",
        "Models elsewhere, in joules before their PUE; never added to this machine's",
    ),
    "x_tokens": ("{n} jetons écrits", "{n} tokens written"),
    "x_call_bounds": ("bornes {low} à {high} J ({flags})", "bounds {low} to {high} J ({flags})"),
    "x_elsewhere_sum": (
        "{energy} J et {grams} g pour tous les appels, dont les {calls} derniers ci-dessus",
        "{energy} J and {grams} g for all calls, of which the last {calls} above",
    ),
    "x_paid_by": ("payé par la requête qui a appelé : {parent}", "paid by the request that called: {parent}"),
    "x_told_by_callee": ("{grams} g, selon le service appelé", "{grams} g, as the callee told"),
    "x_carbon_head": (
        "Gaz à effet de serre : énergie × PUE × facteur + part de fabrication",
        "Greenhouse gases: energy × PUE × factor + share of manufacture",
    ),
    "x_no_carbon": ("inconnus : sans joules, pas de grammes", "unknown: without joules, no grams"),
    "x_carbon_unknown": (
        "total inconnu : un appel ailleurs n'a pas de chiffre",
        "total unknown: a call elsewhere has no figure",
    ),
    "x_mid": ("milieu", "mid"),
    "x_low": ("bas", "low"),
    "x_high": ("haut", "high"),
    "x_there": ("ailleurs", "elsewhere"),
    "x_embodied": ("de fabrication", "of manufacture"),
    "x_sources_head": ("D'où viennent ces chiffres", "Where these come from"),
    "x_declared": ("déclaré", "declared"),
    "x_flags": ("à savoir", "flags"),
    "x_boundary": ("périmètre", "boundary"),
    "x_ecologits": (
        "EcoLogits {version}, mix électrique {zone} (MPL-2.0)",
        "EcoLogits {version}, electricity mix of {zone} (MPL-2.0)",
    ),
    "x_own_factor": ("facteur propre à l'exploitant, ou d'un réseau en direct", "the operator's own factor, or a live grid's"),
    # compare
    "c_refused": ("A et B ne se comparent pas :", "A and B cannot be compared:"),
    "c_methods": ("méthodes différentes : {a} et {b}", "different methods: {a} and {b}"),
    "c_boundaries": ("périmètres différents : {a} et {b}", "different boundaries: {a} and {b}"),
    "c_tiers": ("niveaux différents : {a} et {b}", "different tiers: {a} and {b}"),
    "c_basis": ("bases différentes : {a} et {b}", "different bases: {a} and {b}"),
    "c_unit_names": ("unités fonctionnelles différentes : {a} et {b}", "different functional units: {a} and {b}"),
    "c_remote_methods": (
        "méthodes différentes pour les modèles ailleurs : {a} et {b}",
        "different methods for models elsewhere: {a} and {b}",
    ),
    "c_mixed": ("chaque côté mêle déjà {what}", "each side mixes {what} already"),
    "c_head": (
        "A = {a}, B = {b} ; par {per} (A : {n:g}, B : {m:g}), pendant le traitement, sans la veille entre deux",
        "A = {a}, B = {b}; per {per} (A: {n:g}, B: {m:g}), while they ran, without idle between them",
    ),
    "c_request": ("requête", "request"),
    "c_factors": (
        "grammes non comparés : facteurs de natures différentes ({a} et {b})",
        "grams not compared: factors of different kinds ({a} and {b})",
    ),
    "c_apart": ("les intervalles sont disjoints", "their intervals are apart"),
    "c_overlap": ("les intervalles se recouvrent : pas d'écart établi", "their intervals overlap: no difference is shown"),
}


def language_of(asked: str | None, environment: Mapping[str, str] = os.environ) -> Lang:
    """``asked`` when given, else "fr" where the locale is French (LC_ALL, LC_MESSAGES, LANG, in POSIX order), else "en".

    Raises ConfigurationError for a language that is not spoken here.
    """
    if asked is not None:
        if asked not in LANGUAGES:
            raise ConfigurationError(f"--lang {asked!r} is not spoken here: use fr or en")
        return asked
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if environment.get(name):
            return "fr" if environment[name].lower().startswith("fr") else "en"
    return "en"


class Words:
    """``words("key", name=value)``: one text in one language; and figures, with an ordinary space before their unit."""

    def __init__(self, lang: Lang) -> None:
        self.lang: Lang = lang
        self.colon = " :" if lang == "fr" else ":"

    def __call__(self, key: str, **values: object) -> str:
        """The text of ``key`` with its blanks filled; KeyError for a key nobody wrote."""
        french, english = _WORDS[key]
        return (french if self.lang == "fr" else english).format(**values)

    def figure(self, value: float | None, unit: str, within: Interval | None = None) -> str:
        """``figure(0.0042, "J")``: "4.2 mJ", in French "4,2 mJ"; None is "unknown"; ``within`` its bounds, one digit may do."""
        return _plain(page_figures.figure(value, unit, self.lang, within))

    def bounds(self, interval: Interval, unit: str) -> str:
        """``"2.1 to 8.0 mJ"``, rounded outward; "exact" for an interval without width."""
        if interval.low == interval.high:
            return self("exact")
        # six digits: a float's last one must not push an outward rounding a step further
        low, high = (float(f"{end:.6g}") for end in (interval.low, interval.high))
        return _plain(page_figures.bounds(Interval(low, min(max(low, interval.mid), high), high), unit, self.lang))

    def known(self, interval: Interval | None, unit: str) -> str:
        """A figure with its bounds: "4.2 mJ (2.1 to 8.0 mJ)"."""
        if interval is None:
            return self("unknown")
        return f"{self.figure(interval.mid, unit, interval)} ({self.bounds(interval, unit)})"

    def number(self, value: float) -> str:
        """A bare number with at most two decimals."""
        return _plain(page_figures.count(value, self.lang))

    def percent(self, share: float | None) -> str:
        """A share 0…1 in per cent; a trace is "< 0.01 %", never 0."""
        return _plain(page_figures.percent(share, self.lang))

    def tier(self, tier: Tier | None) -> str:
        """The tier in a word; what is counted rather than weighed (tokens, requests) has none."""
        return self("tier_exact" if tier is None else f"tier_{tier}")


def _plain(text: str) -> str:
    # narrow no-break spaces are for pages: in a terminal they defeat grep and some fonts
    return text.replace(page_figures.NARROW, " ").replace("\u00a0", " ")
