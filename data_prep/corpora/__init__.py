"""Raw trees -> Utterances: one reader a corpus, and the only door to them."""

from data_prep.corpora import (
  crema_d,
  emodb,
  iemocap,
  ravdess,
  recola,
  synthetic,
  table,
)

CORPORA = {
  "crema_d": crema_d.read,
  "emodb": emodb.read,
  "iemocap": iemocap.read,
  "ravdess": ravdess.read,
  "recola": recola.read,
  "synthetic": synthetic.read,
  "table": table.read,
}
