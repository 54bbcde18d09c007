"""Statements: what they cost, which line sent them, and what makes them faster.

Flows in: executions of SQLAlchemy engines (`Capture`), closed records (`StatementTable`), statements with
sample parameters (`upshift.sql.indexes.advisor`, imported where it is used, for it needs the extra `find`).
Flows out: statements in records, statistics by digest, lazy loads answered in batches (`Batching`), and
indexes that the planner was seen to use (`IndexAdvice`).
"""

from upshift.sql.analysis.digest import Digest, Digests, normalise
from upshift.sql.analysis.statistics import StatementStatistics, StatementTable
from upshift.sql.capture.capture import Capture
from upshift.sql.capture.comments import Comments
from upshift.sql.capture.transactions import Transactions
from upshift.sql.engines import engine_for, sync_engine_for
from upshift.sql.fetch_plans.fetch_plans import FetchPlans, LateFetchPlansWarning
from upshift.sql.fetch_plans.learned import FetchPlan, LearnedLoad
from upshift.sql.indexes.advice import AdviceReport, IndexAdvice, consolidate
from upshift.sql.indexes.build import apply_indexes, undo_indexes
from upshift.sql.indexes.built import BuiltIndex, built_indexes
from upshift.sql.indexes.declaration import as_models
from upshift.sql.indexes.index import Condition, Index, IndexColumn, index_from_dict
from upshift.sql.indexes.surplus import SurplusIndex, surplus_indexes
from upshift.sql.indexes.workload import Work, observed_workload
from upshift.sql.loading.batching import Batching, LateBatchingWarning
from upshift.sql.loading.cohorts import SCHEDULE
from upshift.sql.loading.get_many import get_many
from upshift.sql.loading.installing import UncoveredSQLAlchemyWarning
from upshift.sql.loading.shadow import Difference
from upshift.sql.placeholders import Sample
from upshift.sql.plans.capturing import PlanCapture
from upshift.sql.plans.explanation import Explanation, explain_statement
from upshift.sql.plans.history import PlanRegression, PlanRun, StatementPlans, regression
from upshift.sql.plans.tree import PlanNode, PlanTree
from upshift.sql.pool.pools import Pools
from upshift.sql.replicas.carriers import RedisCarrier
from upshift.sql.replicas.position import Position
from upshift.sql.replicas.replicas import Replicas
from upshift.sql.uses.uses import AttributeUses, Use

__all__ = [
    "SCHEDULE",
    "AdviceReport",
    "AttributeUses",
    "Batching",
    "BuiltIndex",
    "Capture",
    "Comments",
    "Condition",
    "Difference",
    "Digest",
    "Digests",
    "Explanation",
    "FetchPlan",
    "FetchPlans",
    "Index",
    "IndexAdvice",
    "IndexColumn",
    "LateBatchingWarning",
    "LateFetchPlansWarning",
    "LearnedLoad",
    "PlanCapture",
    "PlanNode",
    "PlanRegression",
    "PlanRun",
    "PlanTree",
    "Pools",
    "Position",
    "RedisCarrier",
    "Replicas",
    "Sample",
    "StatementPlans",
    "StatementStatistics",
    "StatementTable",
    "SurplusIndex",
    "Transactions",
    "UncoveredSQLAlchemyWarning",
    "Use",
    "Work",
    "apply_indexes",
    "as_models",
    "built_indexes",
    "consolidate",
    "engine_for",
    "explain_statement",
    "get_many",
    "index_from_dict",
    "normalise",
    "observed_workload",
    "regression",
    "surplus_indexes",
    "sync_engine_for",
    "undo_indexes",
]
