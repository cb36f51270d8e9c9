"""The words of the tone rules, as plain tables. The words of a phrase are joined by "_"; the longest entry wins.

The lists are our own, made for earnings calls and company news.
"""

from __future__ import annotations

from typing import Final

#: Words that say that something rises, and that something falls. What it means depends on what it is: see `METRICS`.
DIRECTIONS: Final = {
    "up": """
        rose rise rises risen increase increases increasing grew grow grows grown growth
        climb climbs climbed climbing jump jumps jumped jumping surge surges surged surging soar soars soared soaring
        expand expands expanding expansion
        gain gains gained gaining double doubles doubled doubling triple triples tripled tripling quadrupled
        up up_from accelerate accelerates accelerated accelerating acceleration
        advance advances advanced advancing
        raise raises raised raising lift lifts lifted lifting boost boosts boosted boosting widen widens widened
        widening outpace outpaced outpacing outperform outperforms outperformed outperformance upside upward uptick
        exceed exceeds exceeded exceeding beat beats beating surpass surpasses surpassed topped
        balloon ballooned escalate escalates escalated escalating
    """,
    "down": """
        fell fall falls fallen decline declines declined decrease decreases decreasing
        drop drops dropped dropping slid sliding slump slumps slumped slumping plunge plunges plunged
        plunging plummet plummeted shrink shrinks shrank shrunk contracted contraction diminish diminishes diminished diminishing
        down down_from lowered lowering miss misses missed missing cut cuts cutting reduce reduces
        reducing reduction reductions slow slows slowed slowing slowdown sank sink sinks sinking tumble tumbles
        tumbled tumbling narrow narrows narrowed narrowing erode eroded eroding erosion
        compress compressed compression halve halved shed trim trimmed trimming dip dipped dips soften softened softening
        decelerate decelerated decelerating deceleration downward downtick moderated moderating
        underperform underperformed ease eased eases easing
        collapse collapses collapsed collapsing slipped slip slips fade faded fading squeezed squeeze plateaued
        receded retreated wane waned waning
    """,
    # Adjectives: they belong to what follows, where that is a metric.
    "more": "higher bigger larger faster increased growing expanded rising record",
    "less": "lower smaller slower narrower reduced declining shrinking falling weaker softer decreased",
    # Good or bad whatever it is that does it: a cost that improves has fallen.
    "better": """
        improve improves improved improving improvement improvements strengthen strengthens strengthened
        strengthening recover recovers recovered recovering recovery rebound rebounds rebounded rebounding rally rallied
        optimize optimized optimise optimised streamlined
    """,
    "worse": """
        weaken weakens weakened weakening deteriorate deteriorates deteriorated deteriorating deterioration worsen
        worsens worsened worsening
    """,
    # Places a metric against a reference that must follow: "costs came in below plan".
    "over": "above ahead_of ahead better_than higher_than",
    "under": "below behind short_of shy_of worse_than lower_than less_than",
}

#: What rises and falls: a rise of the good is good news, a rise of the bad is bad news.
METRICS: Final = {
    "good": """
        revenue revenues sales sale turnover top_line bottom_line profit profits profitability earnings income ebitda
        ebita ebit eps margin margins order orders order_book order_intake backlog bookings pipeline demand cash_flow
        cash_flows volume volumes market_share share shares stock retention renewals guidance outlook forecast forecasts
        target targets estimate estimates expectations consensus dividend dividends customer customers subscriber
        subscribers user users member_base traffic result results price prices pricing delivery deliveries index value
        growth growth_rate production output shipments productivity efficiency utilization utilisation occupancy
        yield yields return_on_equity liquidity cash_generation cash_position satisfaction conversion conversion_rate
        cost_savings savings synergies capacity exports market_position performance comps same_store_sales
        billings deposits assets_under_management premiums royalties ratings operating_leverage
    """,
    "bad": """
        loss losses cost costs cost_of_sales cost_of_goods_sold expense expenses expenditure debt leverage churn
        attrition turnover_rate employee_turnover impairment impairments inventory inventories default defaults
        delinquencies charge_offs unemployment headwind headwinds delay delays charge charges complaint complaints
        deficit commodity_price commodity_prices raw_material_prices material_prices oil_prices energy_prices
        input_prices steel_prices fuel_prices write_downs write_offs writedowns writeoffs provisions credit_losses loan_losses loss_ratio
        combined_ratio inflation tariffs freight_costs downtime scrap backlogs_of_complaints cancellations returns_rate
        lead_times working_capital injuries incidents accident_rate emissions borrowings risk risks uncertainty shortages
    """,
}

#: Words that are good or bad news by themselves.
WORDS: Final = {
    "positive": """
        award awarded awards win wins won winning strong stronger strongest strongly strength success successful
        successfully pleased delighted proud excited excellent outstanding exceptional robust favorable favourable
        favorably favourably momentum tailwind tailwinds upgrade upgraded profitable opportunity opportunities
        confident confidence milestone breakthrough attractive positive positively good great better best
        enhance enhanced enhances enhancing enhancement signed approval approved thrilled solid solidly resilient
        resilience healthy encouraging encouraged impressive remarkable terrific fantastic record_high
        all_time_high below_budget under_budget never_been_better never_better never_been_stronger never_stronger
        well_positioned major_order major_orders large_order large_orders new_orders on_track ahead_of_schedule market_leader leading
        cost_reductions cost_savings annual_savings price_increases sign_ups innovative efficient gratifying
        return_to_profitability returned_to_profit back_to_profit turned_profitable swung_to_a_profit
        raising_guidance better_than_expected stronger_than_expected exceeded_expectations outperform
    """,
    "negative": """
        weak weaker weakest weakness weaknesses disappointing disappointed disappointment disappointingly adverse
        adversely layoff layoffs laid_off lay_off restructuring lawsuit lawsuits litigation bankruptcy bankrupt
        insolvency warning warned warns downgrade downgraded difficult difficulty difficulties challenging challenge
        challenges challenged unable failed fail fails failure failures negative negatively poor poorly worse worst
        suspend suspended suspends suspension withdrew withdrawn withdrawing shortfall shortfalls soft softness
        pressure pressures pressured terminate terminated termination plant_closure plant_closures store_closures site_closures
        mill_closure temporary_closure closed_down shut_down shutdown shutdowns strike temporarily
        dismiss dismissed dismissal dismissals redundancies redundant tough toughest painful fined hurt hurts hurting
        penalty penalties fine_of fraud investigation probe recall recalls recalled outage outages breach lost losing
        lose loses unfavorable unfavourable unfavorably unprofitable stagnant sluggish struggled struggling struggle
        struggles bottleneck bottlenecks disruption disruptions disrupted setback setbacks unfortunately
        going_concern material_weakness covenant_breach write_down write_off writedown writeoff cancelled canceled
        postponed postpone postpones volatility volatile dilutive frustrating shortage shortages hit_by hit_hard
        weighed_on weighing_on drag dragged damaged damage burden
        loss losses decline declined declines impairment delay delayed delays uncertainty
        uncertainties headwind headwinds default plunged slump profit_warning
        swung_to_a_loss turned_to_a_loss worse_than_expected weaker_than_expected lower_than_expected over_budget off_track
        missed_expectations below_expectations short_of_expectations behind_schedule behind_plan
    """,
}

#: Words that join the others.
LINKS: Final = {
    # Turn what follows them within `NEGATION_REACH` tokens of the same clause.
    "negator": """
        no not never nobody no_one without neither nor cannot can't don't doesn't didn't isn't aren't wasn't weren't won't wouldn't
        couldn't shouldn't hasn't haven't hadn't ain't hardly barely lack lacks lacked lacking absence_of
        fail_to fails_to failed_to failing_to unable_to unlikely_to far_from rather_than instead_of
        avoid avoids avoided avoiding prevent prevents prevented
    """,
    # Begin a clause with news of its own.
    "contrast": """
        but although though while whereas despite in_spite_of yet nevertheless nonetheless except offset_by
        partly_offset_by partially_offset_by
    """,
    # Begin a clause that says what may be rather than what is.
    "possible": "if unless until whether",
    # Lead from a number to the earlier one that it is compared with.
    "comparison": """
        from against versus vs compared_to compared_with as_compared_to as_compared_with in_comparison_with in_comparison_to
        up_from down_from
    """,
    # What a metric is placed against: "above" and "below" need one of these within `REFERENCE_REACH` tokens.
    "reference": """
        expectation expectations guidance forecast forecasts plan plans budget target targets estimate estimates consensus
        outlook last_year prior_year previous_year year_ago a_year_earlier prior_quarter last_quarter expected planned
        anticipated average norm norms where level levels last prior previous
    """,
    "comma": ",",
    "to": "to to_a to_an",
    "to a": "to_a to_an",
    # A metric after one of these is set aside by the speaker: "excluding restructuring costs".
    "aside": "excluding exclude excludes before ex including net_of",
}
NEGATION_REACH: Final = 4
REFERENCE_REACH: Final = 5
#: How many tokens after "higher" its metric may stand, and after "to a" the loss that is reached.
ADJECTIVE_REACH: Final = 4
OUTCOME_REACH: Final = 5

#: Look like one of the words above and say nothing about the business: courtesy, idioms, terms of accounting.
PLAIN: Final = """
    good_morning good_afternoon good_evening good_day good_question great_question thank_you thanks pleased_to_join
    great_to_be_here good_to_be_here pleased_to_be_here great_to_hear good_to_hear best_regards all_the_best
    good_luck not_only not_just not_merely not_surprisingly no_doubt no_question no_longer_than not_necessarily
    not_least why_not whether_or_not if_not no_later_than not_yet up_to follow_up followed_up set_up make_up made_up
    end_up ended_up sum_up wrap_up catch_up open_up opened_up opening_up tax_cuts faster_than slower_than to_leverage leverage_our leverage_the do_our_best try_our_best
    continue_our_best start_up start_ups startup ramp_up
    come_up coming_up came_up bring_up brought_up pick_up look_up line_up break_down broken_down break_it_down drill_down
    going_down_the_path down_the_road down_the_line sit_down cut_off slow_season record_date for_the_record
    on_the_record record_keeping track_record go_ahead look_ahead looking_ahead year_ahead quarter_ahead
    months_ahead road_ahead going_forward drop_through drop_off best_practice best_practices as_well_as
    better_understand best_in_class contract_manufacturing contract_manufacturer contract_manufacturers
    contract_research income_tax income_taxes net_of per_share sales_force sales_team sales_people
    price_target above_mentioned below_the_line above_the_line net_debt_to_ebitda
    in_line_with break_even shares_outstanding outstanding_shares number_of_shares_outstanding number_of_shares advance_notice in_advance advanced_technology advanced_technologies advanced_materials
    rise_to_the_occasion gain_on gains_on losses_on gain_or_loss gains_and_losses loss_of_generality
    profit_and_loss income_statement order_to in_order_to in_order share_with share_our share_some share_more
    share_a share_the share_that share_your share_my like_to_share recall_that you_recall you'll_recall you_may_recall we_recall strike_price strikes_a_balance leading_up leading_to better_part
    good_faith great_deal great_britain great_lakes of_record on_record
    growth_area growth_areas growth_market growth_markets growth_strategy growth_strategies growth_initiative
    growth_initiatives growth_driver growth_drivers growth_plan growth_plans growth_stage growth_engine growth_company
    growth_companies growth_platform growth_rate_of soft_launch software_as_a_service
"""

#: A sentence with one of these is a legal or technical notice, and has no tone.
NOTICES: Final = """
    forward_looking_statements forward_looking_information forward_looking_statement safe_harbor safe_harbour
    differ_materially materially_different materially_from actual_results_may actual_results_could
    non_gaap_financial_measures non_gaap_measures reconciliation_of reconciliations listen_only_mode
    undertakes_no_obligation undertake_no_obligation no_obligation_to_update replay_of
"""

#: What is earned or lost: "to a loss" and "a profit, against a loss" are news without any number.
OUTCOMES: Final = {
    "profit": "profit profits profitability income earnings surplus black eps",
    "loss": "loss losses deficit red",
}
