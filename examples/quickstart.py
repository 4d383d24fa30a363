"""The whole method on two data frames: prepare, summarise, train, fuse, measure, save, serve."""

import polars as pl

import trsr
from trsr.config.data import DemoData

# Any shop will do: items with an id and text columns, events with a user, an item and a time.
shop = trsr.read(DemoData(users=2_000))
items = shop.items
events = shop.histories.explode("item_ids", "times").rename({"item_ids": "item_id", "times": "time"})

data = trsr.from_frames(items, events)
protocol = trsr.prepare(data, negatives=20, seed=0)
summaries = trsr.write_summaries(protocol, writer="keyphrase", paradigm="recurrent")
ranker = trsr.TextRanker.from_pretrained("compact", epochs=2).fit(protocol, summaries)
fused = trsr.FusedRanker(ranker, ["itemknn", "tfidf", "popularity"]).fit(protocol)

systems = {"language model": ranker, "fused": fused, "TF-IDF": "tfidf", "BM25": "bm25(k1=1.5)"}
with pl.Config(tbl_rows=-1, tbl_cols=-1):
    print(trsr.evaluate(systems, protocol, [trsr.Recall(k=5), trsr.NDCG(k=10)], reference="TF-IDF"))

fused.save("ranker")
with trsr.Recommender.load("ranker") as recommender:
    history = shop.histories["item_ids"][0].to_list()
    print(recommender.rank(history=history, k=3))
    print(recommender.rank_many([history, history[:5]], k=3))
    print(recommender.recommend(history, k=3, explain=True))  # out of the whole catalogue
