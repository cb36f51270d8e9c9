"""The words around numbers, as tables: metrics, what looks ahead, what compares, what says how a number moved."""

from __future__ import annotations

from typing import Final

from analysis_kit.analyzers.text import word_set

#: The metric's name in the results -> how it is said. Of two that fit, the longer one is taken.
METRICS: Final = {
    "revenue": "revenue revenues net_revenue net_revenues total_revenue turnover top_line",
    "sales": "sales net_sales",
    "organic growth": "organic_growth organic_revenue_growth organic_sales_growth",
    "same-store sales": "same_store_sales comparable_sales comparable_store_sales like_for_like_sales comps",
    "recurring revenue": "recurring_revenue annual_recurring_revenue arr",
    "billings": "billings",
    "bookings": "bookings net_bookings",
    "orders": "orders order_intake",
    "backlog": "backlog order_book",
    "book-to-bill": "book_to_bill book_to_bill_ratio",
    "gross profit": "gross_profit",
    "gross margin": "gross_margin gross_margins gross_profit_margin",
    "operating income": "operating_income operating_profit income_from_operations operating_earnings",
    "operating margin": "operating_margin operating_margins ebit_margin",
    "operating loss": "operating_loss",
    "EBITDA": "ebitda adjusted_ebitda",
    "EBITDA margin": "ebitda_margin adjusted_ebitda_margin",
    "EBIT": "ebit ebita",
    "net income": "net_income net_profit net_earnings",
    "net loss": "net_loss",
    "EPS": "eps earnings_per_share earning_per_share diluted_earnings_per_share earnings_per_diluted_share diluted_eps",
    "FFO": "ffo affo funds_from_operations",
    "loss per share": "loss_per_share loss_per_diluted_share",
    "earnings": "earnings",
    "profit": "profit profits pretax_profit",
    "loss": "loss losses",
    "income": "income",
    "margin": "margin margins",
    "dividend": "dividend dividends",
    "share repurchases": "share_repurchases stock_repurchases buyback buybacks repurchases",
    "free cash flow": "free_cash_flow fcf",
    "operating cash flow": "operating_cash_flow cash_flow_from_operations cash_from_operations cash_provided_by_operations"
    " cash_from_operating_activities cash_generated_from_operating_activities cash_provided_by_operating_activities",
    "cash flow": "cash_flow cash_flows",
    "cash": "cash cash_balance cash_position",
    "liquidity": "liquidity",
    "debt": "debt total_debt gross_debt",
    "net debt": "net_debt",
    "leverage": "leverage net_leverage leverage_ratio net_leverage_ratio",
    "capital expenditure": "capex capital_expenditure capital_expenditures capital_spending capital_investment",
    "R&D": "r_&_d r_&_d_expense r_&_d_expenses research_and_development research_and_development_expense",
    "SG&A": "sg_&_a sg_&_a_expense sg_&_a_expenses g_&_a",
    "operating expenses": "operating_expenses operating_expense opex",
    "cost of sales": "cost_of_sales cost_of_revenue cost_of_goods_sold cogs",
    "costs": "cost costs expense expenses",
    "savings": "savings cost_savings synergies",
    "interest expense": "interest_expense",
    "tax rate": "tax_rate effective_tax_rate",
    "depreciation": "depreciation depreciation_and_amortization d_&_a amortization",
    "impairment": "impairment impairments impairment_charge write_down write_off",
    "charges": "charge charges restructuring_charges restructuring_charge",
    "inventory": "inventory inventories",
    "working capital": "working_capital",
    "assets under management": "assets_under_management aum",
    "deposits": "deposits",
    "loans": "loans loan_book",
    "net interest income": "net_interest_income nii",
    "net interest margin": "net_interest_margin nim",
    "premiums": "premiums written_premiums gross_written_premiums",
    "combined ratio": "combined_ratio",
    "expense ratio": "expense_ratio",
    "return on equity": "return_on_equity roe",
    "return on capital": "return_on_capital return_on_invested_capital roic roce",
    "market share": "market_share",
    "volume": "volume volumes",
    "price": "price prices pricing",
    "production": "production output",
    "shipments": "shipments deliveries",
    "capacity": "capacity",
    "utilization": "utilization utilisation utilization_rate",
    "occupancy": "occupancy",
    "retention": "retention retention_rate net_retention net_revenue_retention renewal_rate",
    "churn": "churn churn_rate attrition",
    "customers": "customers customer_base",
    "subscribers": "subscribers subscriber_base",
    "users": "users",
    "headcount": "headcount employees workforce",
    "stores": "stores store_count",
    "tariffs": "tariffs",
    "inflation": "inflation",
    "currency": "currency foreign_exchange fx",
}

#: Looks ahead: a number after it, or a goal after the number, is guidance.
AHEAD: Final = """
    expect expects expecting we'd_expect is_expected are_expected be_expected expected_to expected_in
    anticipate anticipates anticipating is_anticipated are_anticipated anticipated_to guide guides guided guiding
    guidance outlook forecast forecasts forecasting forecasted_to we_project we're_projecting projecting projected_to
    projects_to is_projected are_projected target targets targeting targeted goal aim aims aiming plan_to plans_to
    planning_to intend_to intends_to will_be will_total will_amount will_come will_grow will_increase will_decrease
    will_reach will_exceed will_range should_be should_come should_reach should_grow on_track_to on_track_for
    we're_looking_at we_are_looking_at looking_for in_the_range_of to_be_in_the_range we'll_be see_full_year
    midpoint we_estimate
"""
#: The goals among them may stand behind their number: "$5 million is our target".
GOALS: Final = word_set("guidance outlook target targets goal forecast midpoint")

#: Looks back at what was expected, and makes no number guidance.
NOT_AHEAD: Final = """
    than_expected as_expected than_we_expected than_anticipated as_anticipated than_forecast we_had_expected
    than_we_had_expected had_expected were_expected was_expected than_planned what_we_expected we_estimate_that
"""

#: What a number is set against comes after these.
COMPARED: Final = "versus vs against compared_to compared_with compares_to compares_with as_compared_to as_compared_with up_from down_from over_the"
CONTRASTS: Final = "but although though while whereas however despite"

#: Nouns and adjectives of direction: they may stand behind their number, "a 5% increase", or far before it.
NOUNS: Final = word_set("""
    increase increases growth rise improvement improvements expansion acceleration uptick recovery rebound
    jump surge boost higher bigger larger more faster up
    decrease decreases decline declines drop drops reduction reductions fall contraction erosion compression slowdown
    deterioration downtick dip slump lower smaller slower less fewer down
""")
#: The nouns that may stand far before their number: "growth in the third quarter was 5%".
FAR_NOUNS: Final = word_set("growth increase decrease decline improvement reduction")
#: What may stand between a number and the metric behind it: "a 7% decline in our volumes", "$5 million of free cash flow".
BEHIND: Final = NOUNS | word_set("""
    of in for our the its their total annual adjusted organic reported year over on sequential underlying additional new
    incremental quarterly worth net
""")
#: What may stand between a verb and its number.
ABOUT: Final = word_set("about approximately around roughly nearly almost some over more than just another")
#: What may stand between a direction and the number of the change.
FILLERS: Final = word_set("""
    by about approximately around roughly nearly almost some over more than just only slightly another a an of was were
    is at the our its their another's year on sequentially organically reported adjusted total - respectively
    quarter constant currency as much to from better than expected anticipated strong solid record healthy robust
    modest impressive further low high well
""")
#: A number right after these is a level and not the size of a change.
LEVEL: Final = word_set("to at from versus vs against than")
FLAT: Final = "flat unchanged stable steady in_line_with"
