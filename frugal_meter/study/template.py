"""``study.toml`` as ``frugal-meter study init`` writes it, in French and in English: one text, with what is to be changed."""

from __future__ import annotations

from typing import Final

from .results import Lang

_FRENCH: Final = """\
# Étude d'impact avant déploiement : ce qui sera mesuré, déclaré avant de mesurer.
#   frugal-meter study run study.toml --out etude
# Tout ce qui commence par « # » est une explication.

title = "Étude d'impact : le service à étudier"
lang = "fr"                       # langue de vos textes ; le rapport existe en français et en anglais
purpose = "À quoi sert ce service, et pour qui."
author = "Prénom Nom"             # qui répond de cette étude
organisation = "Ma collectivité"
contact = "adresse@exemple.fr"
# rebound = "Effets rebond étudiés, et ce qu'on en sait."   # absent : « non étudié », et le rapport le dit
limits = ["Ce que cette étude ne montre pas, en une phrase."]

[service]
app = "main:app"                  # MODULE:APPLICATION (ASGI) ; factory = true si c'est une fonction qui la construit
# env = { MA_VARIABLE = "1" }
# [service.meter]                 # réglages du compteur, si l'application ne se mesure pas elle-même
# host_share = 0.25               # sa part de la machine au repos, 0 à 1

[unit]
name = "request"                  # ou l'unité que compte le service : @meter.measure(unit="answer")
description = "une réponse donnée à une question d'usager"
rationale = "C'est ce que le service rend aux usagers."

[use]
units_per_year = [50_000, 100_000, 200_000]   # bas, moyen, haut ; ou un seul nombre
hours_per_year = 8760             # heures de service par an
starts_per_year = 12              # redémarrages par an
source = "Estimation du service, mars 2026."

[load]
file = "questions.jsonl"          # une requête par ligne : {"path": "/ask", "json": {"question": "…"}, "expect": "…"}
# call = "charge:questions"       # ou une fonction : nom de la variante -> liste de requêtes
concurrency = 1                   # requêtes simultanées
at_least_s = 2                    # toute la charge est rejouée jusqu'à ce que ce temps soit passé

[run]
warm_up = 3                       # requêtes de mise en route, comptées à part
repetitions = 5                   # chaque variante, autant de fois, dans un ordre tiré au sort
baseline_s = 10                   # secondes au repos avant chaque mesure
seed = 1

# [judge]                         # qui note les réponses, de 0 à 1 ; absent : « pas de note de qualité »
# call = "juge:note"              # note(requete, reponse) -> nombre
# metric = "réponse exacte"

[carbon]
zone = "FR"
# pue = 1.3                       # ou [bas, moyen, haut] ; absent : valeur par défaut, signalée
# pue_source = "Hébergeur, relevé 2025."
# lifetime_years = 5              # durée de vie du matériel

[[variant]]
name = "grand"
title = "IA de grande taille"
kind = "ai"
set = { model = "grand-modele" }  # ajouté au JSON de chaque requête

[[variant]]
name = "petit"
title = "IA de petite taille"
kind = "smaller-ai"
set = { model = "petit-modele" }

[[variant]]
name = "sans-ia"
title = "Recherche sans IA"
kind = "no-ai"
path = "/recherche"               # une autre adresse, pour toutes les requêtes

# [alternative]                   # seulement s'il n'y a ni IA plus petite ni solution sans IA à comparer
# none = "La raison, en une phrase."

# [[upstream]]                    # entraînement et fabrication du modèle, selon le fournisseur ; absent : « non fourni »
# model = "grand-modele"
# carbon_kg = 1200
# source = "Fiche du fournisseur, février 2026."
"""

_ENGLISH: Final = """\
# Impact study before deployment: what will be measured, declared before it is.
#   frugal-meter study run study.toml --out study
# Whatever begins with "#" is an explanation.

title = "Impact study: the service to study"
lang = "en"                       # language of your texts; the report exists in French and in English
purpose = "What this service is for, and for whom."
author = "First Last"             # who answers for this study
organisation = "My administration"
contact = "address@example.org"
# rebound = "Rebound effects that were studied, and what is known."   # absent: "not studied", and the report says so
limits = ["What this study does not show, in a sentence."]

[service]
app = "main:app"                  # MODULE:APPLICATION (ASGI); factory = true where it is a function that makes one
# env = { MY_VARIABLE = "1" }
# [service.meter]                 # settings of the meter, where the application does not meter itself
# host_share = 0.25               # its part of the machine at rest, 0 to 1

[unit]
name = "request"                  # or the unit that the service counts: @meter.measure(unit="answer")
description = "one answer given to a user's question"
rationale = "It is what the service gives to people."

[use]
units_per_year = [50_000, 100_000, 200_000]   # low, mid, high; or one number
hours_per_year = 8760             # hours a year that the service is up
starts_per_year = 12              # restarts a year
source = "The service's estimate, March 2026."

[load]
file = "questions.jsonl"          # a request per line: {"path": "/ask", "json": {"question": "…"}, "expect": "…"}
# call = "load:questions"         # or a function: name of the variant -> list of requests
concurrency = 1                   # requests at once
at_least_s = 2                    # the whole load is asked again until so many seconds have passed

[run]
warm_up = 3                       # requests to warm up, counted apart
repetitions = 5                   # each variant, so many times, in an order drawn by lot
baseline_s = 10                   # seconds at rest before each measure
seed = 1

# [judge]                         # who scores the answers, 0 to 1; absent: "no quality score"
# call = "judge:score"            # score(request, answer) -> number
# metric = "exact answer"

[carbon]
zone = "FR"
# pue = 1.3                       # or [low, mid, high]; absent: a default, flagged
# pue_source = "Hosting company, measured 2025."
# lifetime_years = 5              # of the hardware

[[variant]]
name = "large"
title = "Large AI"
kind = "ai"
set = { model = "large-model" }   # merged into the JSON of each request

[[variant]]
name = "small"
title = "Small AI"
kind = "smaller-ai"
set = { model = "small-model" }

[[variant]]
name = "no-ai"
title = "Search without AI"
kind = "no-ai"
path = "/search"                  # another address, for all requests

# [alternative]                   # only where there is neither a smaller AI nor a way without AI to compare
# none = "The reason, in a sentence."

# [[upstream]]                    # training and making of the model, as its supplier says; absent: "not supplied"
# model = "large-model"
# carbon_kg = 1200
# source = "Supplier's sheet, February 2026."
"""

TEMPLATES: Final[dict[Lang, str]] = {"fr": _FRENCH, "en": _ENGLISH}
