//! LEAD: not yours any more: see LEAD-SAYS.md
