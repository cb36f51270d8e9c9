"""The words of the tone rules, as tables. A ``*`` stands for any ending."""

from __future__ import annotations

#: Says that something rose.
UP = (
    "rose rise rises risen rising increas* grew grow grows growing grown growth climb* jump* surg* soar* improv* expand* "
    "expansion gain* doubl* tripl* up higher accelerat* strengthen* advanc* exceed* beat beats outperform* raise raised "
    "raises raising record rebound* recover*"
).split()

#: Says that something fell.
DOWN = (
    "fell fall falls fallen falling declin* decreas* drop dropped drops slid slide slump* plung* shrank shrink* shrunk "
    "contracted contraction down lower lowered lowering weaken* deteriorat* miss missed misses cut cuts cutting reduc* "
    "slow slowed slower slowing slows slowdown sank tumbl* narrow* erod* compress* ease eased"
).split()

#: A rise of these is good news.
GOOD = (
    "revenue revenues sales turnover profit profits profitability earnings income ebitda ebit eps margin margins order "
    "orders backlog demand cashflow volume volumes share retention bookings guidance outlook dividend dividends customer "
    "customers traffic net result results price prices pricing deliveries index value utilization productivity renewals "
    "subscribers users conversion"
).split()

#: A rise of these is bad news.
BAD = (
    "loss losses cost costs expense expenses debt churn impairment impairments inventory inventories default defaults "
    "unemployment headwind headwinds delay delays charge charges complaint complaints deficit attrition cancellations "
    "writedown writedowns write-down write-downs leverage"
).split()

#: Good news by themselves.
POSITIVE = (
    "award awarded wins win won strong stronger strongest successful successfully success pleased excellent outstanding "
    "robust favorable favourable momentum upgrade upgraded leading profitable opportunity opportunities confident exceeded "
    "milestone breakthrough efficient attractive positive good better best enhance enhanced agreement signed approval "
    "approved thrilled solid resilient healthy encouraging"
).split()

#: Bad news by themselves.
NEGATIVE = (
    "loss losses weak weaker weakness disappointing disappointed adverse adversely impairment layoff layoffs restructuring "
    "lawsuit litigation bankruptcy default warning warned downgrade downgraded decline declined difficult challenging "
    "uncertainty unable failed failure negative poor worse worst delay delayed suspend suspended shortfall softness pressure "
    "pressures headwind headwinds terminate terminated closure strike dismissals redundancies recall"
).split()

#: Turns a word that follows within `NEGATION_REACH` characters into its opposite.
NEGATIONS = "no not never without neither nor cannot hardly isn't wasn't didn't don't doesn't hasn't haven't won't".split()
NEGATION_REACH = 25

#: Begin a new thought within a sentence.
CONTRASTS = "while but although though whereas however".split()
