# The images of this project, for GNU make (3.81 or later). In a Makefile of yours: include pipeline.mk
#
#   make images      render what is missing or changed, each job by itself: `make -j4 images` works on four at once
#   make -q images   0 when nothing is to be done, else 1; nothing is started to find that out
#   make validate    check all jobs
#   make plan        what would be rendered, and the price
#
# Give the jobs a `budget`: under make nobody is asked. A job that ends with 4 goes on from there when make runs again.
# Names of jobs and of the folders in front of them hold no spaces: make would take them for several.

PIPELINE ?= pipeline
PIPELINE_FLAGS ?= -q
PIPELINE_JOBS ?= jobs
PIPELINE_OUTPUTS ?= outputs
export PIPELINE_OUTPUTS

# A job is done when its stamp is newer than all it was made from, which the file .d beside it names. What was done for
# one service, or with other flags, says nothing of another: stamps of each way of calling have a folder of their own.
pipeline.call := $(strip $(filter-out -q -v --quiet --verbose,$(PIPELINE_FLAGS)) $(PIPELINE_SERVICE) $(PIPELINE_MODELS))
pipeline.name := $(if $(pipeline.call),$(firstword $(shell printf '%s' '$(subst ','\'',$(pipeline.call))' | cksum)),plain)
pipeline.marks := $(PIPELINE_OUTPUTS)/.pipeline/make/$(pipeline.name)
pipeline.files := $(notdir $(wildcard $(PIPELINE_JOBS)/*.yaml $(PIPELINE_JOBS)/*.yml))
pipeline.stamps := $(patsubst %,$(pipeline.marks)/%.stamp,$(filter-out _%,$(pipeline.files)))

.PHONY: images validate plan

images: $(pipeline.stamps)

# A job that fails keeps no other one from being rendered.
ifeq (images,$(strip $(MAKECMDGOALS)))
MAKEFLAGS += -k
endif

$(pipeline.stamps): $(pipeline.marks)/%.stamp: $(PIPELINE_JOBS)/%
	@$(PIPELINE) $(PIPELINE_FLAGS) run $< --stamp $@ --depfile $(@:.stamp=.d)

validate:
	@$(PIPELINE) $(PIPELINE_FLAGS) validate $(PIPELINE_JOBS)

plan:
	@$(PIPELINE) $(PIPELINE_FLAGS) plan $(PIPELINE_JOBS)

-include $(pipeline.stamps:.stamp=.d)
