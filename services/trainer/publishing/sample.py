"""The texts on which int8 is compared with fp32: the same for each encoder, with the topics that a probe is fitted to.

Short and long, in five languages; an encoder is shared by projects, so that no project's own texts are a fair sample.
"""

from __future__ import annotations

from typing import Final

_TOPICS: Final = (
    "order parcel delivery courier address",
    "invoice payment card refund receipt",
    "password login account email settings",
    "screen battery phone charger camera",
    "flight hotel luggage passport booking",
    "soup cheese recipe oven dinner",
    "goal referee striker league match",
    "election minister vote parliament law",
    "doctor fever medicine hospital pain",
    "guitar concert album singer chorus",
    "loan interest bank savings mortgage",
    "rain snow storm temperature wind",
    "teacher homework exam school lesson",
    "engine brakes tyres garage mileage",
    "galaxy telescope planet orbit rocket",
    "garden roses soil seeds watering",
    "contract lawyer court judge appeal",
    "software server database crash update",
    "novel author chapter library poem",
    "jacket shoes sleeve size colour",
)
_TEMPLATES: Final = (
    "Where is my {0}? The {1} said it would be here by Friday.",
    "i dont understand the {0} and nobody tells me about the {1}",
    "Das Problem mit {0} und {1} besteht seit gestern, bitte helfen Sie mir.",
    "Je voudrais savoir pourquoi {0} n'est plus disponible avec {1} !!",
    "Здравствуйте, есть вопрос про {0} и {1}.",
    "¿Cuánto cuesta {0}? {1} #42 (24/7)",
    "{0}",
    "Thank you, the {0} and the {1} are perfect 🙂",
)


def sample_texts() -> tuple[list[str], list[int]]:
    """Return 460 texts and the topic of each, from 0."""
    texts, topics = list[str](), list[int]()
    for topic, words in enumerate(_TOPICS):
        names = words.split()
        own = [
            template.format(name, names[place - 1])
            for place, name in enumerate(names)
            for number, template in enumerate(_TEMPLATES)
            if (place + number) % 2 == 0
        ]
        own += [" ".join(own[start::3]) for start in range(3)]
        texts += own
        topics += [topic] * len(own)
    return texts, topics
