"""The words of a study's report, in French and in English. Plain language first, the field's term second."""

from __future__ import annotations

from typing import Final

from ..exporters.page_texts import LANGUAGES, Lang, typeset

#: key: (French, English)
_WORDS: Final[dict[str, tuple[str, str]]] = {
    # the frame
    "kind": ("Étude d’impact : énergie et carbone", "Impact study: energy and carbon"),
    "skip": ("Aller au contenu", "Skip to content"),
    "contents": ("Sommaire", "Contents"),
    "other_language": ("English version", "Version française"),
    "page": ("page", "page"),
    "service": ("Service : {}", "Service: {}"),
    "origin_scenario": ("essai mené avant la mise en service", "test run before deployment"),
    "origin_journal": ("service observé en fonctionnement", "service observed while it ran"),
    "ended": ("mesures achevées le ", "measured until "),
    "by": ("par {}", "by {}"),
    "contact": ("Contact : ", "Contact: "),
    "made_with": (
        "Rapport établi à partir de study.json, que chacun peut recalculer (voir « Recalculer »).",
        "Report made from study.json, which anyone can recompute (see “Recompute”).",
    ),
    "written_in_fr": ("Les textes de l’équipe sont cités tels quels.", "The team’s own texts are quoted as written, in French."),
    "written_in_en": (
        "Les textes de l’équipe sont cités tels quels, en anglais.",
        "The team’s own texts are quoted as written.",
    ),
    # small words
    "and": ("et", "and"),
    "between": ("entre {} et {}", "between {} and {}"),
    "times": ("fois", "times"),
    "unknown": ("inconnu", "unknown"),
    "not_told": ("non renseigné", "not told"),
    "none": ("aucun", "none"),
    "quote": ("« {} »", "“{}”"),
    "over": ("plus de", "more than"),
    "under": ("moins de", "less than"),
    "middle": ("{} au centre", "{} in the middle"),
    # 1. the answer
    "answer": ("La réponse en trois phrases", "The answer in three sentences"),
    "answer_unit": (
        "Pour {}, {} demande {} d’énergie ({}) et émet {} ({}), {}{}.",
        "For {}, {} takes {} of energy ({}) and emits {} ({}), {}{}.",
    ),
    "hardware_in": ("fabrication du matériel comprise", "making of the hardware included"),
    "hardware_out": ("fabrication du matériel non comprise", "making of the hardware left out"),
    "over_year": (
        " ; la veille, les démarrages et les échecs de l’année y sont",
        "; the year’s idling, starts and failures are in it",
    ),
    "over_test": (
        " ; c’est le chiffre de l’essai, faute d’usage annuel déclaré",
        "; this is the test’s figure, no yearly use being declared",
    ),
    "over_period": (" ; c’est le chiffre de la période observée", "; this is the figure of the period observed"),
    "answer_year": (
        "Sur un an, pour {} unités, cela fait {} et {}{}.",
        "Over a year of {} units, that is {} and {}{}.",
    ),
    "answer_idle": (
        " ; {} de cette énergie s’écoule pendant que personne ne demande rien",
        "; {} of that energy goes while nobody asks for anything",
    ),
    "answer_no_year": (
        "Aucun usage annuel n’a été déclaré : il n’y a donc pas de chiffre par an.",
        "No yearly use was declared: there is no figure per year.",
    ),
    "answer_unknown": (
        "La consommation de {} n’a pas pu être établie : ce rapport ne lui donne aucun chiffre.",
        "What {} consumes could not be established: this report gives no figure for it.",
    ),
    "versus": ("{}{}.", "{}{}."),
    "versus_year": (
        "Sur l’année, veille comprise, c’est {} par unité contre {} ; pendant l’essai seul, ",
        "Over the year, idling included, that is {} per unit against {}; in the test alone, ",
    ),
    "versus_same": (
        "Sur l’année, la veille efface l’écart : {} par unité pour chacune ; pendant l’essai seul, ",
        "Over the year, idling wipes out the difference: {} per unit for each; in the test alone, ",
    ),
    "versus_test": ("Pendant l’essai, ", "In the test, "),
    "figure_of": ("{} pour {}", "{} for {}"),
    "more_than": (
        "{} a demandé {} plus d’énergie par unité que {}",
        "{} took {} as much energy per unit as {}",
    ),
    "more_too": ("{} plus que {}", "{} as much as {}"),
    "same_as": (
        "rien ne sépare l’énergie par unité de {} et celle de {} (rapport : {})",
        "nothing tells the energy per unit of {} from that of {} (ratio: {})",
    ),
    "ratio_unknown": ("l’énergie de {} et celle de {} ne se comparent pas", "the energy of {} and that of {} do not compare"),
    "clauses": ("{}, et {}", "{}, and {}"),
    "one_round": (" en une seule répétition, donc sans intervalle,", " in a single repetition, so without an interval,"),
    "scores": ("Scores de qualité : {}{}.", "Quality scores: {}{}."),
    "scores_close": (
        " (l’essai n’établit pas d’écart de qualité avec {})",
        " (the test establishes no difference of quality with {})",
    ),
    "no_scores": (
        "Aucun score de qualité ne dit si les réponses se valent.",
        "No quality score tells whether the answers are worth the same.",
    ),
    "no_alternative": ("Aucune alternative n’a été comparée : {}.", "No alternative was compared: {}."),
    "tile_unit_j": ("Énergie par unité", "Energy per unit"),
    "tile_unit_g": ("Carbone par unité", "Carbon per unit"),
    "tile_year_wh": ("Énergie par an", "Energy per year"),
    "tile_year_g": ("Carbone par an", "Carbon per year"),
    "tiles_of": ("Chiffres de {}", "Figures of {}"),
    "joules_before": (
        "Les joules et les kilowattheures sont ceux de la machine, avant le bâtiment ; les grammes comptent aussi le "
        "bâtiment (PUE) "
        "et la fabrication du matériel. L’intervalle est une plage plausible, pas un intervalle de confiance.",
        "Joules and kilowatt-hours are those of the machine, before the building; grams also hold the building (PUE) and "
        "the making of "
        "the hardware. The interval is a plausible range, not a confidence interval.",
    ),
    "measured_part": ("part mesurée : {}", "part measured: {}"),
    "withheld_note": (
        "Chiffres retirés : moins de {} requêtes, on pourrait y lire l’usage d’une personne.",
        "Figures withheld: fewer than {} requests, one person’s use could be read off them.",
    ),
    "withheld": ("chiffres retirés", "withheld"),
    # 2. what was compared
    "compared": ("Ce qui a été comparé", "What was compared"),
    "purpose": ("À quoi sert le service", "What the service is for"),
    "unit": ("Unité fonctionnelle", "Functional unit"),
    "rationale": ("Pourquoi cette unité", "Why this unit"),
    "use": ("Usage annuel supposé", "Yearly use supposed"),
    "use_said": (
        "{} unités, {} heures de service, {} démarrages (source : {})",
        "{} units, {} hours of service, {} starts (source: {})",
    ),
    "variants_caption": ("Les variantes et leurs requêtes", "The variants and their requests"),
    "variant": ("Variante", "Variant"),
    "nature": ("Nature", "Kind"),
    "kind_ai": ("IA proposée", "AI proposed"),
    "kind_smaller-ai": ("IA plus petite", "smaller AI"),
    "kind_no-ai": ("sans IA", "without AI"),
    "kind_as-run": ("service tel qu’il a servi", "service as it ran"),
    "models": ("Modèles", "Models"),
    "requests": ("Requêtes", "Requests"),
    "failed": ("Échecs", "Failures"),
    "failed_said": ("{} sur {}", "{} of {}"),
    "refused_said": ("dont {} refusées", "of which {} refused"),
    # 3. results
    "results": ("Résultats", "Results"),
    "unit_caption": (
        "Par unité, sur l’année déclarée : le chiffre à citer",
        "Per unit, over the declared year: the figure to cite",
    ),
    "unit_caption_test": ("Par unité, pendant l’essai", "Per unit, in the test"),
    "unit_caption_period": (
        "Par unité, sur la période observée : le chiffre à citer",
        "Per unit, over the period observed: the figure to cite",
    ),
    "year_caption": ("Par an, pour l’usage supposé", "Per year, for the use supposed"),
    "energy": ("Énergie", "Energy"),
    "carbon": ("Carbone", "Carbon"),
    "quality": ("Qualité", "Quality"),
    "proof": ("Niveau de preuve", "Tier"),
    "embodied_part": ("dont fabrication {}", "of which hardware {}"),
    "remote_part": ("dont {} ailleurs", "of which {} elsewhere"),
    "standing": ("Veille", "Idling"),
    "standing_said": ("{} allumé sans servir", "{} up without serving"),
    "idle_share": ("Part de la veille", "Part of idling"),
    "no_quality": ("pas de score de qualité", "no quality score"),
    "quality_said": ("{} à {}, sur {} réponses à {} questions", "{} to {}, on {} answers to {} questions"),
    "unjudged": ("{} sans score, car en échec", "{} without a score, having failed"),
    "readings_caption": (
        "Les lectures d’une même unité, qui ne se confondent pas",
        "Readings of one unit, not to be mixed up",
    ),
    "read_year": ("Sur l’année", "Over the year"),
    "read_test": ("Pendant l’essai", "In the test"),
    "read_period": ("Sur la période", "Over the period"),
    "read_running": ("Pendant que la requête courait", "While the request ran"),
    "read_running_note": ("ne se cite pas seule", "never cited alone"),
    "runs_caption": ("Comment les répétitions se sont passées", "How the repetitions went"),
    "repetitions": ("Répétitions", "Repetitions"),
    "spread_said": ("de {} à {} par unité", "from {} to {} per unit"),
    "latency": ("Attente", "Waiting time"),
    "latency_said": ("médiane {}", "median {}"),
    "latency_p95": ("{} pour 95 % des réponses au plus", "at most {} for 95% of answers"),
    "ratios_caption": ("Face à {}, par unité, pendant l’essai", "Beside {}, per unit, in the test"),
    "ratio_energy": ("Rapport d’énergie", "Ratio of energy"),
    "ratio_carbon": ("Rapport de carbone", "Ratio of carbon"),
    "ratio_note": (
        "Les erreurs communes aux deux variantes (capteur, modèle, PUE, facteur) s’annulent dans un rapport : il est mieux connu "
        "que chaque chiffre. Son intervalle va du plus petit au plus grand rapport des répétitions prises deux à deux.",
        "Errors common to both variants (sensor, model, PUE, factor) cancel in a ratio, which is better known than "
        "either figure. "
        "Its interval runs from the smallest to the largest ratio of paired repetitions.",
    ),
    "ratio_bounds": ("{} à {}", "{} to {}"),
    "rounds_said": ("{} répétitions", "{} repetitions"),
    "rounds_one": ("une répétition", "one repetition"),
    "gap_quality": ("Écart de score", "Difference of score"),
    # 4. quality and energy
    "pareto": ("Qualité et énergie", "Quality and energy"),
    "pareto_title": ("Qualité de chaque variante selon son énergie par unité", "Quality of each variant by its energy per unit"),
    "pareto_desc": (
        "Nuage de {} points. En abscisse, l’énergie par unité pendant l’essai, en joules, {} ; en ordonnée, le score de "
        "qualité, de "
        "{} à {}. Sur le front : {}. Les valeurs sont dans le tableau qui suit.",
        "Plot of {} points. Across, the energy per unit in the test, in joules, {}; upwards, the quality score, from {} "
        "to {}. On "
        "the front: {}. The values are in the table below.",
    ),
    "scale_log": ("échelle logarithmique", "logarithmic scale"),
    "scale_linear": ("échelle linéaire", "linear scale"),
    "axis_j": ("Énergie par unité ({})", "Energy per unit ({})"),
    "axis_log": ("{}, échelle logarithmique", "{}, logarithmic scale"),
    "axis_quality": ("Score de qualité", "Quality score"),
    "pareto_read": (
        "Une variante est sur le front quand aucune autre n’est à la fois aussi bonne et aussi frugale, et meilleure sur "
        "l’un des deux "
        "points. Les traits montrent les intervalles.",
        "A variant is on the front when no other is at once as good and as frugal, and better in one of both. The bars show the "
        "intervals.",
    ),
    "key_front": ("◆ losange plein : sur le front", "◆ full diamond: on the front"),
    "key_behind": ("○ cercle vide : derrière le front", "○ open circle: behind the front"),
    "pareto_caption": ("Les points du graphique", "The points of the plot"),
    "front": ("Front", "Front"),
    "front_yes": ("sur le front", "on the front"),
    "front_no": ("derrière", "behind"),
    "front_clear": ("quels que soient les intervalles", "whatever the intervals"),
    "front_unclear": ("les intervalles pourraient en décider autrement", "the intervals could decide otherwise"),
    "no_pareto": (
        "Aucune variante n’a de score de qualité : ce rapport ne dit pas si les réponses se valent, et ne classe donc "
        "pas les variantes.",
        "No variant has a quality score: this report does not say whether the answers are worth the same, and so ranks "
        "no variant.",
    ),
    "score": ("Score", "Score"),
    # 5. sensitivity
    "sensitivity": ("Ce qui ferait changer le résultat", "What would change the result"),
    "tornado_title": ("Carbone par unité de {} quand une hypothèse change", "Carbon per unit of {} when one assumption changes"),
    "tornado_desc": (
        "Une barre par hypothèse, de la plus influente à la moins influente : {}. Le trait vertical est la valeur de "
        "l’étude, {}.",
        "One bar per assumption, from the most to the least telling: {}. The upright line is the study’s own value, {}.",
    ),
    "semicolon": (" ; ", "; "),
    "tornado_bar": ("{}, de {} à {}", "{}, from {} to {}"),
    "tornado_read": (
        "Une seule hypothèse change à la fois ; les barres portent sur la valeur centrale, dont l’intervalle reste celui "
        "des tableaux.",
        "One assumption changes at a time; bars show the middle value, whose interval stays that of the tables.",
    ),
    "tornado_key": (
        "Barre claire : en dessous de la valeur de l’étude ; barre pleine : au-dessus. Aux bouts, la valeur de l’hypothèse.",
        "Open bar: below the study’s own value; full bar: above it. At the ends stands the value of the assumption.",
    ),
    "own_value": ("étude : {}", "study: {}"),
    "axis_g": ("Carbone par unité ({})", "Carbon per unit ({})"),
    "no_sensitivity": (
        "Pas d’analyse de sensibilité : l’usage annuel n’est pas déclaré.",
        "No sensitivity run: the yearly use is not declared.",
    ),
    "lever_grid": ("Facteur d’émission du réseau", "Emission factor of the grid"),
    "lever_pue": ("Bâtiment (PUE)", "Building (PUE)"),
    "lever_lifetime": ("Durée de vie du matériel", "Life of the hardware"),
    "lever_use": ("Unités par an", "Units per year"),
    "lever_standing": ("Heures de service par an", "Hours of service per year"),
    "lever_caption": ("{} : carbone par unité", "{}: carbon per unit"),
    "value": ("Valeur", "Value"),
    "in_force": ("retenue dans l’étude", "used in this study"),
    "unit_gCO2e/kWh": ("gCO₂e/kWh", "gCO₂e/kWh"),
    "unit_years": ("ans", "years"),
    "unit_units/year": ("unités", "units"),
    "unit_hours/year": ("heures", "hours"),
    # 6. what is counted
    "counted": ("Ce qui est compté, et ce qui ne l’est pas", "What is counted, and what is not"),
    "boundary_caption": ("Le périmètre de l’étude : le cadre plein", "The boundary of the study: the solid frame"),
    "inside": ("Compté", "Counted"),
    "outside": ("Non compté", "Not counted"),
    "aside": ("Donné à part, jamais ajouté", "Given apart, never added"),
    "in_energy": ("En joules et en grammes", "In joules and in grams"),
    "in_carbon": ("En grammes seulement", "In grams only"),
    "in_time": ("Tout le temps du service", "All the time of the service"),
    "part_building": ("le bâtiment : refroidissement, alimentation (PUE {})", "the building: cooling, power supply (PUE {})"),
    "part_embodied": (
        "la fabrication du matériel, au prorata de sa durée de vie",
        "the making of the hardware, by its part of life",
    ),
    "part_serving": ("les requêtes, réussies ou non", "requests, whether they succeed or not"),
    "part_waiting": ("la veille qui revient au service", "the service’s slice of idle"),
    "part_starting": ("les démarrages et la mise en température", "starts and warm-up"),
    "part_elsewhere": ("les modèles appelés ailleurs", "models called elsewhere"),
    "component_cpu": ("le processeur", "the processor"),
    "component_memory": ("la mémoire", "the memory"),
    "component_dram": ("la mémoire", "the memory"),
    "component_gpu": ("la carte graphique", "the graphics card"),
    "component_board": ("la carte mère et les disques", "the board and disks"),
    "component_node": ("la machine entière", "the whole machine"),
    "out_embodied": ("la fabrication du matériel", "the making of the hardware"),
    "out_network": ("le réseau", "the network"),
    "out_terminals": ("les appareils des usagers", "users’ devices"),
    "out_end-user devices": ("les appareils des usagers", "users’ devices"),
    "out_training": ("l’entraînement des modèles", "training of the models"),
    "out_build and deployment": ("la fabrication et le déploiement du logiciel", "building and deploying the software"),
    "out_backup and failover elsewhere": ("les secours ailleurs", "backup and failover elsewhere"),
    "out_water": ("l’eau", "water"),
    "aside_training": ("entraînement et amont (section suivante)", "training and upstream (next section)"),
    "parts_caption_period": ("De quoi est faite l’énergie de la période", "What the energy of the period is made of"),
    "parts_caption": ("De quoi est faite l’énergie de l’essai", "What the energy of the test is made of"),
    "part_delivered": ("Requêtes abouties", "Requests delivered"),
    "part_failed": ("Requêtes en échec ou refusées", "Requests failed or refused"),
    "part_late": ("Travail achevé après la réponse", "Work done after the answer"),
    "part_overhead": ("Fonctionnement du service lui-même", "Running of the service itself"),
    "part_slice": ("Veille qui revient au service", "The service’s slice of idle"),
    # 7. upstream
    "upstream": ("Entraînement et amont", "Training and upstream"),
    "not_supplied": (
        "Chiffre non fourni : aucun fournisseur n’a communiqué ce que l’entraînement et la mise au point des modèles ont coûté. "
        "Non fourni ne veut pas dire nul.",
        "Not supplied: no supplier told what training and making the models cost. Not supplied does not mean nil.",
    ),
    "upstream_caption": (
        "Ce que les fournisseurs déclarent pour le modèle entier ; jamais ajouté aux chiffres de cette étude",
        "What suppliers declare for the whole model; never added to the figures of this study",
    ),
    "model": ("Modèle", "Model"),
    "source": ("Source", "Source"),
    "upstream_missing": ("Non fourni pour : {}.", "Not supplied for: {}."),
    # 8. rebound
    "rebound": ("Effet rebond", "Rebound"),
    "not_studied": (
        "Non étudié : cette étude ne dit pas si le service fera naître des demandes nouvelles, ni ce qu’il remplace ailleurs.",
        "Not studied: this study does not say whether the service will give rise to new demand, nor what it replaces elsewhere.",
    ),
    # 9. limits
    "limits": ("Limites", "Limits"),
    "limits_by_people": ("Relevées par l’équipe", "Noted by the team"),
    "limits_none": (
        "L’équipe n’en a relevé aucune ; ce n’est pas une preuve qu’il n’y en a pas.",
        "The team noted none; that is no proof that there are none.",
    ),
    "limits_found": ("Relevées par l’instrument", "Noted by the meter"),
    "limit_modelled": (
        "{} de l’énergie est lue sur un capteur ; le reste est calculé par un modèle de puissance, dont l’erreur est "
        "dans les intervalles.",
        "{} of the energy is read from a sensor; the rest is computed by a power model, whose error is in the intervals.",
    ),
    "limit_all_modelled": (
        "Aucun capteur d’énergie n’a été lu : tous les joules sont calculés par un modèle de puissance, dont l’erreur "
        "est dans les "
        "intervalles.",
        "No energy sensor was read: all joules are computed by a power model, whose error is in the intervals.",
    ),
    "limit_failed": ("{} : {} requêtes sur {} ont échoué ({}).", "{}: {} of {} requests failed ({})."),
    "limit_one": ("{} : une seule répétition, la dispersion est inconnue.", "{}: a single repetition, the spread is unknown."),
    "limit_gap": (
        "{} : {} de l’énergie de la machine n’a pu être attribuée.",
        "{}: {} of the machine’s energy could not be attributed.",
    ),
    "flag_study:several-metrics": (
        "notes de qualité de plusieurs mesures : sans moyenne commune",
        "scores of quality of several metrics: no common mean",
    ),
    "flag_study:failed-many": ("plus de 5 % des requêtes ont échoué", "more than 5% of requests failed"),
    "flag_study:several-machines": (
        "les répétitions n’ont pas toutes tourné sur la même machine",
        "the repetitions did not all run on the same machine",
    ),
    "flag_study:remote-unknown": (
        "l’énergie de certains appels à des modèles ailleurs est inconnue et manque au total",
        "the energy of some calls to models elsewhere is unknown and missing from the total",
    ),
    "flag_study:remote-carbon-unknown": (
        "le carbone de certains appels à des modèles ailleurs est inconnu et manque au total",
        "the carbon of some calls to models elsewhere is unknown and missing from the total",
    ),
    "flag_study:beyond-one-machine": (
        "l’usage supposé demande plus d’heures que n’en a l’année : une machine n’y suffirait pas",
        "the use supposed takes more hours than the year has: one machine would not do",
    ),
    "flag_cpu:host": (
        "le temps de calcul est rapporté à celui de toute la machine",
        "computing time is set against that of the whole machine",
    ),
    # 10. method
    "method": ("Méthode", "Method"),
    "method_steps": ("Déroulement", "Protocol"),
    "load": ("Charge", "Load"),
    "load_said": (
        "{} requêtes par répétition, {} à la fois, après {} de mise en température",
        "{} requests per repetition, {} at a time, after {} for warm-up",
    ),
    "order": ("Ordre", "Order"),
    "order_said": ("tiré au sort avec la graine {}", "drawn with the seed {}"),
    "baseline": ("Repos mesuré", "Rest measured"),
    "baseline_said": ("{} par répétition", "{} per repetition"),
    "judge": ("Juge de qualité", "Judge of quality"),
    "machine": ("Machine", "Machine"),
    "machine_said": ("{}, {} unités de calcul, {} Gio de mémoire, {}", "{}, {} CPUs, {} GiB of memory, {}"),
    "cpu_unknown": ("processeur inconnu", "unknown processor"),
    "host_share": ("Part de la machine déclarée", "Part of the machine declared"),
    "sensors": ("Sources d’énergie", "Energy sources"),
    "method_ids": ("Identifiants de méthode", "Method identifiers"),
    "method_where": (
        "Chaque identifiant est décrit, équations comprises, dans docs/method.md et docs/carbon.md du logiciel, à la "
        "version ci-dessous.",
        "Each identifier is described, with its equations, in docs/method.md and docs/carbon.md of the software, at the "
        "version below.",
    ),
    "equations": ("Équations", "Equations"),
    "equations_said": (
        "Numérotées comme dans recompute.py, qui les applique aux données brutes ; détail dans docs/study.md et "
        "docs/method.md du logiciel. Bas avec bas, haut avec haut : les erreurs d’une source sont communes à toutes les "
        "requêtes et ne se moyennent pas.",
        "Numbered as in recompute.py, which applies them to the raw data; in detail in docs/study.md and docs/method.md of the "
        "software. Lows with lows, highs with highs: the errors of a source are common to all requests and "
        "do not average out.",
    ),
    "eq_see": ("Équations {}", "Equations {}"),
    "eq_1": (
        "Énergie = requêtes (abouties, en échec, refusées) + travail tardif + fonctionnement + part de repos, "
        "en nanojoules entiers",
        "Energy = requests (delivered, failed, refused) + late work + overhead + slice of idle, in whole nanojoules",
    ),
    "eq_2": (
        "Carbone d’exploitation = énergie × PUE × facteur d’émission",
        "Operational carbon = energy × PUE × emission factor",
    ),
    "eq_3": (
        "Carbone de fabrication = empreinte du matériel × durée ÷ durée de vie × part de la machine",
        "Embodied carbon = footprint of the hardware × time ÷ life × share of the machine",
    ),
    "eq_4": (
        "Par unité : essai = (énergie + ailleurs) ÷ unités rendues ; sur l’année = année ÷ unités par an",
        "Per unit: test = (energy + elsewhere) ÷ units delivered; over the year = year ÷ units a year",
    ),
    "eq_5": (
        "Année = unités × essai + heures restantes × veille + démarrages × démarrage",
        "Year = units × test + hours left × rest + starts × start",
    ),
    "eq_6": (
        "Rapport = essai ÷ essai ; bornes : le plus petit et le plus grand rapport des répétitions prises deux à deux",
        "Ratio = test ÷ test; bounds: the smallest and the largest ratio of paired repetitions",
    ),
    "eq_7": (
        "Qualité = score moyen ; intervalle de Wilson à 95 % sur les questions différentes",
        "Quality = mean score; Wilson’s 95% interval on different questions",
    ),
    # 11. data
    "data": ("Données et facteurs", "Data and factors"),
    "factors_caption": (
        "Facteurs d’émission : retenus, puis ceux de l’analyse de sensibilité",
        "Emission factors: in force, then those of the sensitivity run",
    ),
    "factor": ("Facteur", "Factor"),
    "year": ("Année", "Year"),
    "perimeter": ("Périmètre", "Scope"),
    "licence": ("Licence", "Licence"),
    "scope_lifecycle": ("cycle de vie", "lifecycle"),
    "scope_direct": ("combustion seule", "direct combustion"),
    "basis_location": ("réseau local", "location-based"),
    "basis_market": ("contrat", "market-based"),
    "mix_production": ("production", "production mix"),
    "mix_consumption": ("consommation", "consumption mix"),
    "others_caption": ("Autres constantes", "Other constants"),
    "constant": ("Constante", "Constant"),
    "pue": ("Bâtiment (PUE)", "Building (PUE)"),
    "te": ("Fabrication du matériel", "Making of the hardware"),
    "life": ("Durée de vie", "Life"),
    "covers_vm": ("une machine virtuelle", "a virtual machine"),
    "covers_host": ("la machine entière", "the whole machine"),
    "covers": ("couvre : {}", "covers: {}"),
    "embodied_none": ("La fabrication du matériel n’est pas comptée.", "The making of the hardware is not counted."),
    # 12. recompute
    "recompute": ("Recalculer", "Recompute"),
    "recompute_said": (
        "Le dossier de l’étude contient les données brutes. Ce script n’utilise que la bibliothèque standard de Python "
        "et n’importe rien "
        "de ce logiciel : il refait chaque chiffre et signale le moindre octet changé.",
        "The folder of the study holds the raw data. This script uses Python’s standard library alone and imports "
        "nothing of this "
        "software: it makes every figure anew and tells of a single changed byte.",
    ),
    "hashes_caption": (
        "Empreintes SHA-256 des fichiers dont ce rapport est tiré",
        "SHA-256 of the files that this report is made from",
    ),
    "file": ("Fichier", "File"),
    "versions_caption": ("Versions", "Versions"),
    "program": ("Programme", "Program"),
    "version": ("Version", "Version"),
    "no_seals": (
        "Empreintes absentes : ce rapport n’a pas été tiré d’un dossier d’étude.",
        "No hashes: this report was not made from a study’s folder.",
    ),
    # 13. cite
    "cite": ("Citer cette étude", "Cite this study"),
    "cite_said": (
        "Citer le chiffre par unité avec son intervalle, son niveau de preuve et la date. Les mêmes références sont dans "
        "les fichiers "
        "CITATION.cff et citation.bib du dossier.",
        "Cite the figure per unit with its interval, its tier and the date. The same references are in the files "
        "CITATION.cff and "
        "citation.bib of the folder.",
    ),
    # 14. frames of reference
    "practices": (
        "Référentiels : ce qui est renseigné, ce qui reste à compléter",
        "Frames of reference: what is answered, what is left",
    ),
    "practices_said": (
        "Aide au remplissage, pas une attestation de conformité. Les numéros du RGESN 2024 sont ceux du référentiel "
        "public. Pour l’AFNOR "
        "SPEC 2314, seuls des thèmes tirés de résumés publics sont repris : la personne qui détient le document y ajoute "
        "le numéro de "
        "chaque pratique.",
        "A help for filling in, not a statement of conformity. The numbers of the RGESN 2024 are those of the public "
        "document. For AFNOR "
        "SPEC 2314 only themes of public summaries are taken up: whoever holds the document adds the number of each practice.",
    ),
    "rgesn_caption": ("RGESN 2024", "RGESN 2024 (French general framework for the ecodesign of digital services)"),
    "spec_caption": ("AFNOR SPEC 2314, IA frugale", "AFNOR SPEC 2314, frugal AI"),
    "criterion": ("Critère", "Criterion"),
    "theme": ("Thème", "Theme"),
    "here": ("Ce que cette étude apporte", "What this study brings"),
    "human": ("Ce qu’une personne doit compléter", "What a person must still fill in"),
}


TEXTS: Final[dict[Lang, dict[str, str]]] = {
    "fr": {key: typeset(french) for key, (french, _) in _WORDS.items()},
    "en": {key: english for key, (_, english) in _WORDS.items()},
}
assert set(TEXTS) == set(LANGUAGES)


def say(key: str, lang: Lang, *parts: str) -> str:
    """The text of ``key`` with its blanks filled in order; KeyError for a key nobody wrote."""
    return TEXTS[lang][key].format(*parts) if parts else TEXTS[lang][key]


def said_of(group: str, name: str, lang: Lang) -> str | None:
    """The text of ``group_name``; None for a name that is not one of ours but somebody's own words."""
    return TEXTS[lang].get(f"{group}_{name}")
