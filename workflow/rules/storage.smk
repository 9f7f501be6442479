# Where results lie behind a storage plugin.

# The folder in which results/ lies, where it is elsewhere than in the working directory.
results_above = ""
if workflow.storage_settings.default_storage_provider == "fs":
    results_above = workflow.storage_settings.default_storage_prefix

if workflow.storage_settings.default_storage_provider == "s3":
    import snakemake_storage_plugin_s3

    def is_folder(self):
        """Whether objects lie below this one's key now."""
        return any(self.get_subkeys())

    # 0.3.6 asks once, and so never sees a store that was not there before another node made it
    snakemake_storage_plugin_s3.StorageObject.is_dir = is_folder
