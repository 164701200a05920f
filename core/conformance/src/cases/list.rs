//! The list of all cases.

/// Passes the list of all cases to the macro `$macro`, after `$arguments`.
///
/// The word before the name of each theme says where its cases run: over `any` connection, over a
/// `connection` whose loss the server notices at once, or only over a `web_socket`. Cases marked
/// with `sample` are those of [`polled_sample!`](crate::polled_sample).
#[doc(hidden)]
#[macro_export]
macro_rules! all_cases {
    ([$($macro:tt)*] $($arguments:tt)*) => {
        $($macro)*! { $($arguments)*
            any order {
                every_message_arrives_once_and_in_order sample,
                a_hundred_thousand_empty_messages_arrive,
                messages_sent_before_the_browser_connects_are_delivered_when_it_does,
                messages_sent_while_disconnected_arrive_after_the_resume sample,
                a_connection_lost_before_any_message_resumes,
                a_blip_after_long_idling_resumes,
                drops_during_the_replay_lose_nothing,
                a_thousand_drops_in_a_row_lose_nothing,
                a_request_outstanding_across_the_gap_is_answered_once,
                a_large_transfer_continues_where_it_was_cut,
                clicks_pass_a_transfer_of_100_mb,
                clicks_pass_an_upload,
                a_small_message_does_not_wait_for_the_one_before,
                compressed_messages_arrive_as_they_were_sent,
            }
            any faults {
                nothing_is_lost_when_connections_are_cut sample,
                nothing_is_lost_when_connections_are_reset sample,
                nothing_is_lost_when_frames_are_truncated,
                nothing_is_lost_when_half_open_connections_are_replaced,
                nothing_is_lost_when_connections_stall,
                nothing_is_lost_over_a_long_way,
                a_browser_that_wakes_detects_that_its_connection_is_half_open,
                nothing_is_lost_while_the_server_cannot_be_reached,
                nothing_is_lost_in_a_storm_of_all_faults,
            }
            any takeover {
                a_reconnect_takes_over_while_the_old_connection_looks_alive,
                the_late_end_of_a_replaced_connection_changes_nothing,
                a_late_hello_after_a_newer_welcome_is_stale,
                frames_of_a_replaced_connection_are_dropped,
                takeovers_of_half_open_connections_lose_nothing,
                a_replaced_connection_that_reads_nothing_is_dropped,
                a_soft_close_by_the_application_makes_the_browser_come_back,
                attempts_may_skip_numbers,
            }
            any documents {
                a_page_is_opened_resumed_and_restored,
                a_duplicate_of_an_active_page_is_refused,
                a_reload_while_the_old_page_is_half_open_is_restored_after_the_probe,
                a_superseded_page_that_comes_back_is_refused,
                an_incarnation_of_the_future_is_superseded,
                without_a_probe_an_active_page_is_superseded_at_once,
                a_second_newcomer_is_told_that_the_session_is_busy,
                a_newcomer_may_come_again,
                an_offer_that_is_not_confirmed_is_withdrawn,
                a_protocol_violation_by_a_newcomer_ends_only_its_connection,
                nothing_of_the_old_document_reaches_the_new_one,
                messages_received_before_a_restore_are_read_before_it,
                the_restore_function_speaks_first,
                a_lost_welcome_of_a_restore_does_no_harm,
                a_page_that_comes_back_from_the_cache_resumes,
                many_reloads_in_a_row_are_restored,
            }
            any ending {
                the_last_messages_arrive_before_the_end sample,
                the_last_messages_wait_for_a_browser_that_is_gone,
                a_session_closed_before_its_browser_came_delivers_to_it,
                a_reload_of_an_ending_session_is_told_its_reason,
                the_end_reports_how_much_was_not_received,
                an_abort_ends_at_once,
                a_panic_ends_its_session_and_no_other,
                an_ended_session_stays_answerable,
                an_ended_session_checks_a_client_as_strictly_as_a_live_one,
                a_session_ended_by_a_violation_is_over_like_any_other,
                a_silent_browser_is_detected,
                a_quiet_browser_is_kept_and_a_half_open_one_is_not,
                abandoned_sessions_end_with_their_reasons,
                every_end_is_reported_exactly_once,
                frames_sent_after_the_end_do_not_reset_the_connection,
            }
            connection vanishing {
                a_browser_that_vanishes_leaves_its_session_soft_closed sample,
                a_dropped_handler_leaves_its_session_soft_closed,
            }
            any drain {
                a_thousand_browsers_are_told_to_come_back_spread_over_time,
                queued_messages_are_delivered_before_the_drain_ends,
                a_browser_that_reads_nothing_is_cut_off_at_the_deadline,
                connections_that_wait_are_told_that_the_server_shuts_down,
                a_draining_server_opens_no_new_sessions,
                one_session_can_be_drained_alone,
            }
            any limits {
                sizes_around_every_boundary_arrive,
                messages_larger_than_window_and_outbox_arrive,
                an_application_that_never_reads_costs_only_its_window,
                a_browser_that_never_reads_costs_only_its_session,
                compressed_messages_wait_compressed,
                a_broadcast_is_not_delayed_by_a_stuck_subscriber,
                memory_pressure_ends_the_longest_gone_first,
            }
            any bad_input {
                an_unknown_id_is_refused sample,
                a_wrong_secret_is_refused,
                a_connection_without_a_hello_is_closed,
                a_strange_host_is_refused,
                a_foreign_origin_is_refused,
                a_request_without_our_subprotocol_is_not_upgraded,
                another_version_is_refused,
                a_first_frame_that_is_not_a_hello_is_refused,
                a_text_message_ends_the_session,
                a_malformed_frame_ends_the_session,
                an_oversize_frame_ends_the_session sample,
                a_huge_frame_is_refused_before_all_of_it_has_arrived,
                a_message_above_the_limit_ends_the_session,
                a_zlib_bomb_ends_the_session_in_bounded_memory,
                a_broken_zlib_stream_ends_the_session,
                a_gap_ends_the_connection_and_the_third_the_session,
                a_repeated_frame_is_dropped,
                false_counts_end_the_session,
                false_counts_in_a_hello_end_only_the_connection,
                frames_after_a_hello_are_judged_alike_however_soon_they_come,
                a_first_hello_has_received_nothing_and_may_grant_little,
                a_flood_beyond_the_credit_ends_the_session,
                a_flood_of_empty_messages_ends_the_session,
                a_flood_of_pings_does_no_harm,
                connections_without_a_hello_are_limited,
                a_session_beyond_the_limit_gets_a_ticket_that_says_so,
                the_ticket_keeps_its_secret_out_of_the_url,
            }
            any files {
                the_client_is_served_with_cache_headers,
                the_client_is_served_compressed_to_browsers_that_accept_it,
                the_client_may_be_loaded_by_pages_of_other_origins,
                other_names_are_not_found,
                the_script_tag_names_a_script_that_is_there,
            }
            any principal {
                another_user_is_refused_and_the_session_continues,
                the_user_is_checked_at_every_resume,
                logging_out_ends_the_users_sessions,
                a_session_of_a_user_accepts_nobody_if_users_cannot_be_identified,
            }
            web_socket plain {
                one_web_socket_message_is_one_message,
                queued_messages_come_first_and_in_order,
                a_queue_larger_than_the_outbox_waits_for_its_client,
                a_half_open_client_is_displaced_at_once,
                of_two_tabs_the_newest_has_the_session,
                text_is_refused_or_delivered_as_configured,
                messages_are_compressed_if_so_configured,
                an_oversize_message_ends_only_the_connection,
                a_refused_client_is_closed_with_a_code,
                a_silent_client_is_detected_and_a_quiet_one_is_kept,
                a_session_without_a_client_is_cleaned_up,
                the_last_messages_come_before_the_end,
                a_client_is_held_back_while_the_application_does_not_read,
            }
            web_socket requests {
                files_are_served_despite_upgrade_headers,
                posts_are_accepted_despite_upgrade_headers,
                a_request_that_is_almost_a_web_socket_is_told_what_is_missing,
                upgrade_headers_are_recognised_in_any_case_and_in_lists,
                the_table_of_statuses_holds,
                a_post_to_an_unknown_session_is_refused_with_status_200,
                a_trailing_slash_changes_nothing,
            }
            web_socket posts {
                the_hello_may_come_in_the_post_after_the_opening_one,
                a_streamed_answer_begins_at_once_and_ends_soon_after_the_end,
                a_polled_answer_waits_as_long_as_it_is_asked_to,
                a_streamed_post_that_arrives_twice_is_processed_once,
                a_polled_post_that_arrives_twice_ends_the_connection,
                a_skipped_post_number_ends_the_connection,
                a_body_that_ends_within_a_packet_ends_only_the_connection,
                a_packet_above_what_the_session_allows_is_too_large_by_its_length,
                a_post_carries_a_mebibyte_and_no_more,
            }
            web_socket web_socket {
                a_ping_is_answered,
                a_close_is_answered_with_a_close,
                a_closed_connection_is_dropped_at_once,
                a_message_in_many_frames_arrives,
                a_message_in_many_frames_above_the_limit_ends_the_session,
                bytes_that_are_not_a_web_socket_end_only_the_connection,
                other_methods_are_not_upgraded,
                a_fragment_above_the_frameworks_defaults_arrives,
                the_address_of_the_client_is_known,
            }
        }
    };
}
