"""A reranker's last batch, which is smaller, grouped by its own queries.

Upstream cuts the scores into as many groups as a full batch has queries. One query left of two, with eight
passages, becomes two groups of four: the first negative of the second half is then trained as a right
answer, without a word. Here the number of groups follows from the number of scores.
"""

from typing import Any

from FlagEmbedding.abc.finetune.reranker.AbsModeling import AbsRerankerModel
from FlagEmbedding.finetune.reranker.encoder_only.base.runner import EncoderOnlyRerankerRunner


def apply() -> None:
    """Tell the model how many passages a query has, and let it count the queries of each batch."""
    EncoderOnlyRerankerRunner.load_trainer = _with_group_size(EncoderOnlyRerankerRunner.load_trainer)
    AbsRerankerModel.forward = _counted(AbsRerankerModel.forward)


def _with_group_size(original: Any) -> Any:
    def load_trainer(self: Any) -> Any:
        self.model.train_group_size = self.data_args.train_group_size
        return original(self)

    return load_trainer


def _counted(original: Any) -> Any:
    def forward(self: Any, pair: Any = None, teacher_scores: Any = None) -> Any:
        self.train_batch_size = len(pair["input_ids"]) // self.train_group_size
        return original(self, pair=pair, teacher_scores=teacher_scores)

    return forward
