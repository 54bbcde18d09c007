"""What a lazy load loads besides: batches of a cohort."""
