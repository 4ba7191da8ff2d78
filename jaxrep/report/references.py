"""What a paper on a run has to cite: BibTeX entries and what needs them."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Reference(NamedTuple):
  """`cite` stands in running text; `fields` are BibTeX's."""

  cite: str
  kind: str
  fields: Mapping[str, str]


def _arxiv(cite: str, title: str, author: str, number: str) -> Reference:
  fields = {
    'title': title,
    'author': author,
    'journal': f'arXiv preprint arXiv:{number}',
    'year': f'20{number[:2]}',
  }
  return Reference(cite, 'article', fields)


def _proceedings(
  cite: str, title: str, author: str, book: str, year: str, pages: str = ''
) -> Reference:
  fields = {'title': title, 'author': author, 'booktitle': book, 'year': year}
  if pages:
    fields['pages'] = pages
  return Reference(cite, 'inproceedings', fields)


REFERENCES = {
  'lee2025multimodal': _proceedings(
    'Lee et al., 2025',
    'How do Multimodal Foundation Models Encode Text and Speech? An Analysis '
    'of Cross-Lingual and Cross-Modal Representations',
    'Lee, Hyunji and Liu, Danni and Sinhamahapatra, Supriti and Niehues, Jan',
    'Proceedings of the 2025 Conference of the Nations of the Americas Chapter '
    'of the Association for Computational Linguistics: Human Language '
    'Technologies (Volume 2: Short Papers)',
    '2025',
    '600--610',
  ),
  'groger2026revisiting': _arxiv(
    'Gröger et al., 2026',
    'Revisiting the {Platonic} Representation Hypothesis: An {Aristotelian} '
    'View',
    'Gr{\\"o}ger, Fabian and Wen, Shuo and Brbi{\\\'c}, Maria',
    '2602.14486',
  ),
  'raghu2017svcca': _proceedings(
    'Raghu et al., 2017',
    '{SVCCA}: Singular Vector Canonical Correlation Analysis for Deep Learning '
    'Dynamics and Interpretability',
    'Raghu, Maithra and Gilmer, Justin and Yosinski, Jason and '
    'Sohl-Dickstein, Jascha',
    'Advances in Neural Information Processing Systems 30',
    '2017',
  ),
  'wachter1980limiting': Reference(
    'Wachter, 1980',
    'article',
    {
      'title': 'The Limiting Empirical Measure of Multiple Discriminant Ratios',
      'author': 'Wachter, Kenneth W.',
      'journal': 'The Annals of Statistics',
      'volume': '8',
      'number': '5',
      'pages': '937--957',
      'year': '1980',
    },
  ),
  'morcos2018insights': _proceedings(
    'Morcos et al., 2018',
    'Insights on Representational Similarity in Neural Networks with Canonical '
    'Correlation',
    'Morcos, Ari S. and Raghu, Maithra and Bengio, Samy',
    'Advances in Neural Information Processing Systems 31',
    '2018',
  ),
  'kornblith2019similarity': _proceedings(
    'Kornblith et al., 2019',
    'Similarity of Neural Network Representations Revisited',
    'Kornblith, Simon and Norouzi, Mohammad and Lee, Honglak and Hinton, '
    'Geoffrey',
    'Proceedings of the 36th International Conference on Machine Learning',
    '2019',
    '3519--3529',
  ),
  'song2012feature': Reference(
    'Song et al., 2012',
    'article',
    {
      'title': 'Feature Selection via Dependence Maximization',
      'author': 'Song, Le and Smola, Alex and Gretton, Arthur and Bedo, Justin '
      'and Borgwardt, Karsten',
      'journal': 'Journal of Machine Learning Research',
      'volume': '13',
      'pages': '1393--1434',
      'year': '2012',
    },
  ),
  'murphy2024correcting': _arxiv(
    'Murphy et al., 2024',
    'Correcting Biased Centered Kernel Alignment Measures in Biological and '
    'Artificial Neural Networks',
    'Murphy, Alex and Zylberberg, Joel and Fyshe, Alona',
    '2405.01012',
  ),
  'kriegeskorte2008representational': Reference(
    'Kriegeskorte et al., 2008',
    'article',
    {
      'title': 'Representational Similarity Analysis -- Connecting the '
      'Branches of Systems Neuroscience',
      'author': 'Kriegeskorte, Nikolaus and Mur, Marieke and Bandettini, Peter',
      'journal': 'Frontiers in Systems Neuroscience',
      'volume': '2',
      'year': '2008',
    },
  ),
  'huh2024platonic': _proceedings(
    'Huh et al., 2024',
    'The {Platonic} Representation Hypothesis',
    'Huh, Minyoung and Cheung, Brian and Wang, Tongzhou and Isola, Phillip',
    'Proceedings of the 41st International Conference on Machine Learning',
    '2024',
  ),
  'williams2021generalized': _proceedings(
    'Williams et al., 2021',
    'Generalized Shape Metrics on Neural Representations',
    'Williams, Alex H. and Kunz, Erin and Kornblith, Simon and Linderman, '
    'Scott W.',
    'Advances in Neural Information Processing Systems 34',
    '2021',
  ),
  'conneau2018word': _proceedings(
    'Conneau et al., 2018',
    'Word Translation Without Parallel Data',
    "Conneau, Alexis and Lample, Guillaume and Ranzato, Marc'Aurelio and "
    "Denoyer, Ludovic and J{\\'e}gou, Herv{\\'e}",
    'International Conference on Learning Representations',
    '2018',
  ),
  'benjamini1995controlling': Reference(
    'Benjamini and Hochberg, 1995',
    'article',
    {
      'title': 'Controlling the False Discovery Rate: A Practical and Powerful '
      'Approach to Multiple Testing',
      'author': 'Benjamini, Yoav and Hochberg, Yosef',
      'journal': 'Journal of the Royal Statistical Society: Series B',
      'volume': '57',
      'number': '1',
      'pages': '289--300',
      'year': '1995',
    },
  ),
  'conneau2023fleurs': _proceedings(
    'Conneau et al., 2023',
    '{FLEURS}: Few-Shot Learning Evaluation of Universal Representations of '
    'Speech',
    'Conneau, Alexis and Ma, Min and Khanuja, Simran and Zhang, Yu and '
    'Axelrod, Vera and Dalmia, Siddharth and Riesa, Jason and Rivera, Clara '
    'and Bapna, Ankur',
    '2022 IEEE Spoken Language Technology Workshop (SLT)',
    '2023',
    '798--805',
  ),
  'seamless2023m4t': _arxiv(
    'Seamless Communication, 2023a',
    '{SeamlessM4T}: Massively Multilingual \\& Multimodal Machine Translation',
    '{Seamless Communication}',
    '2308.11596',
  ),
  'seamless2023v2': _arxiv(
    'Seamless Communication, 2023b',
    'Seamless: Multilingual Expressive and Streaming Speech Translation',
    '{Seamless Communication}',
    '2312.05187',
  ),
  'duquenne2023sonar': _arxiv(
    'Duquenne et al., 2023',
    '{SONAR}: Sentence-Level Multimodal and Language-Agnostic Representations',
    'Duquenne, Paul-Ambroise and Schwenk, Holger and Sagot, Beno{\\^i}t',
    '2308.11466',
  ),
  'nllb2022': _arxiv(
    'NLLB Team, 2022',
    'No Language Left Behind: Scaling Human-Centered Machine Translation',
    '{NLLB Team}',
    '2207.04672',
  ),
  'tang2024salmonn': _proceedings(
    'Tang et al., 2024',
    '{SALMONN}: Towards Generic Hearing Abilities for Large Language Models',
    'Tang, Changli and Yu, Wenyi and Sun, Guangzhi and Chen, Xianzhao and Tan, '
    'Tian and Li, Wei and Lu, Lu and Ma, Zejun and Zhang, Chao',
    'International Conference on Learning Representations',
    '2024',
  ),
  'radford2023robust': _proceedings(
    'Radford et al., 2023',
    'Robust Speech Recognition via Large-Scale Weak Supervision',
    'Radford, Alec and Kim, Jong Wook and Xu, Tao and Brockman, Greg and '
    'McLeavey, Christine and Sutskever, Ilya',
    'Proceedings of the 40th International Conference on Machine Learning',
    '2023',
  ),
  'chen2023beats': _proceedings(
    'Chen et al., 2023',
    '{BEATs}: Audio Pre-Training with Acoustic Tokenizers',
    'Chen, Sanyuan and Wu, Yu and Wang, Chengyi and Liu, Shujie and Tompkins, '
    'Daniel and Chen, Zhuo and Che, Wanxiang and Yu, Xiangzhan and Wei, Furu',
    'Proceedings of the 40th International Conference on Machine Learning',
    '2023',
  ),
}
STUDY, CALIBRATION, DISCOVERIES, CHANCE = (
  *('lee2025multimodal', 'groger2026revisiting', 'benjamini1995controlling'),
  'wachter1980limiting',
)
# The longest name that a measure's begins with says what it calls for.
MEASURES = {
  'svcca': ('raghu2017svcca',),
  'pwcca': ('morcos2018insights',),
  'cka': ('kornblith2019similarity',),
  'cka_debiased': (
    *('kornblith2019similarity', 'song2012feature', 'murphy2024correcting'),
  ),
  'rsa': ('kriegeskorte2008representational',),
  'mutual_knn': ('huh2024platonic',),
  'procrustes': ('williams2021generalized',),
  'retrieval_csls': ('conneau2018word',),
}
# As well of a model's name; 'a+b' is two models.
MODELS = {
  'seamless-m4t-v1': ('seamless2023m4t',),
  'seamless-m4t-v2': ('seamless2023v2',),
  'sonar': ('duquenne2023sonar',),
  'salmonn': ('tang2024salmonn', 'radford2023robust', 'chen2023beats'),
  'whisper': ('radford2023robust',),
  'beats': ('chen2023beats',),
  'nllb': ('nllb2022',),
  'w2v-bert-2.0': ('seamless2023v2',),
}
CORPORA = {'fleurs': ('conneau2023fleurs',)}


def of_measure(name: str) -> tuple[str, ...]:
  """Keys of `REFERENCES` that a measure calls for."""
  return _longest(MEASURES, name)


def of_model(name: str) -> tuple[str, ...]:
  """Keys of `REFERENCES` that a model calls for."""
  return tuple(
    key for part in name.split('+') for key in _longest(MODELS, part)
  )


def of_corpus(name: str) -> tuple[str, ...]:
  """Keys of `REFERENCES` that a corpus calls for."""
  return CORPORA.get(name, ())


def _longest(
  table: Mapping[str, tuple[str, ...]], name: str
) -> tuple[str, ...]:
  prefixes = [prefix for prefix in table if name.startswith(prefix)]
  return table[max(prefixes, key=len)] if prefixes else ()


def cited(keys: Iterable[str]) -> str:
  """' (Song et al., 2012; Murphy et al., 2024)', or '' for no keys."""
  cites = '; '.join(REFERENCES[key].cite for key in dict.fromkeys(keys))
  return f' ({cites})' if cites else ''


def of_run(definition: Mapping[str, Any]) -> list[str]:
  """Keys for the study, the calibration, and all that a run used, once."""
  keys = [STUDY]
  for name, text in definition['measures'].items():
    keys += of_measure(name)
    if has_floor(text):
      keys += [CALIBRATION, DISCOVERIES]
    if 'Wachter' in text:
      keys.append(CHANCE)
  for name in definition['models']:
    keys += of_model(name)
  return list(dict.fromkeys([*keys, *of_corpus(definition['corpus']['name'])]))


def has_floor(measure: str) -> bool:
  """Whether a measure's definition, as plan.json has it, names a floor."""
  return 'floor: ' in measure.replace('no floor: ', '')


def bibtex(definition: Mapping[str, Any]) -> str:
  """The entries of a run, jaxrep's own last."""
  software = Reference(
    'jaxrep',
    'software',
    {
      'title': '{jaxrep}: How Speech-and-Text Foundation Models Represent the '
      'Same Sentence across Languages and Modalities',
      'author': '{The jaxrep contributors}',
      'version': definition['jaxrep'],
      'year': definition['created'][:4],
    },
  )
  entries = {key: REFERENCES[key] for key in of_run(definition)}
  return '\n\n'.join(
    _entry(key, one) for key, one in (entries | {'jaxrep': software}).items()
  )


def _entry(key: str, reference: Reference) -> str:
  fields = ',\n'.join(
    f'  {name} = {{{value}}}' for name, value in reference.fields.items()
  )
  return f'@{reference.kind}{{{key},\n{fields}\n}}'
