#!/usr/bin/env bash
# Breaks the code in known ways, one at a time, in a copy of the tree, and checks that the named test notices.
# Each line: file | sed expression | tests to run | test that must fail.
set -uo pipefail
cd "$(dirname "$0")/.."
work=target/mutants
rm -rf "$work"
mkdir -p "$work"
git ls-files -z | xargs -0 cp --parents -t "$work"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
survivors=0

mutate() {
    local name="$1" file="$2" expression="$3" suite="$4" must_fail="$5"
    cp "$file" "$work/$file"
    sed -i -E "$expression" "$work/$file"
    if cmp -s "$file" "$work/$file"; then
        printf '%-60s the expression changes nothing\n' "$name"; survivors=$((survivors + 1)); return
    fi
    local log; log=$(cd "$work" && cargo test --release --workspace $suite -- $must_fail 2>&1)
    if grep -qE "^test (.*::)?$must_fail \.\.\. FAILED" <<<"$log"; then
        printf '%-60s noticed by %s\n' "$name" "$(grep -oE '^test [^ ]+ \.\.\. FAILED' <<<"$log" | awk '{print $2}' | sort -u | tr '\n' ' ')"
    else
        printf '%-60s SURVIVED (%s did not fail)\n' "$name" "$must_fail"; survivors=$((survivors + 1))
        grep -E '^error' <<<"$log" | head -3
    fi
    cp "$file" "$work/$file"
}

v=crates/variants/src
laws='--test laws'
mutate 'B starts away from zero'                     $v/delta/low_rank.rs  's/b: at\.zeros\(at\.rank, d_out\)/b: at.zeros(at.rank, d_out) + 0.1/' "$laws" start
mutate 'the gate is left out of forward'             $v/delta/low_rank.rs  's/(x\.matmul\(self\.a\.clone\(\)\)) \* gate\.clone\(\);/\1;/' "$laws" forward
mutate 'the magnitude is left out of the dense weight' $v/combine/weight_decomposed.rs 's/self\.ratio\(base, &factors\) \* \(base/(base/' "$laws" merge
mutate 'a stack is left on when detaching'           $v/adapted.rs         '/pub fn detach/,/^    \}/ s/self\.stacks\.clear\(\);/self.weight = self.weight.clone() * 1.0000001;/' "$laws" detach
mutate 'LoRA-FA trains A as well'                    $v/presets/lora_fa.rs 's/RolePlan::Frozen/RolePlan::PLAIN/' "$laws" parameters
mutate 'the norm is not constant in the backward pass' $v/combine/weight_decomposed.rs 's/wide\(plain\(&factors\.(down|up)\)\)/wide(factors.\1.clone())/g' "$laws" differences
mutate 'half a cross term in the norm'               $v/combine/weight_decomposed.rs 's/cross \* 2\.0/cross/' '--test identities' dora_is_the_papers_formula
mutate 'a prefix keeps one component too many'       $v/pass.rs            's/line\[\.\.width\]\.fill/line[..(width + 1).min(rank)].fill/' "$laws" rank
mutate 'the canonical form forgets the scale'        $v/adapted.rs         '/pub fn canonical/,/^    \}/ s/adapter\.delta\.factors\(&adapter\.gate\(active\)\)/adapter.delta.factors(\&adapter.whole.ones_like())/' "$laws" canonical
mutate 'a prefix is scaled at the full rank'         $v/pass.rs            's/\(ranks\[run\], scales\(run, ranks\[run\]\)\)/(ranks[run], scales(run, rank))/' "$laws" scaling
mutate 'the seed is ignored'                         $v/delta.rs           's/stream::generator\(seed, Stream::Init/stream::generator(seed * 0, Stream::Init/' "$laws" seeds
mutate 'runs read the first run'"'"'s alpha'         $v/adapted.rs         's/&\|run, _\| scales\[run\]/\&|_, _| scales[0]/' "$laws" independence
mutate 'rows of two runs are mixed'                  $v/pass.rs            's/let here = start\.\.start/let here = 0..0/; s/x\.clone\(\)\.reshape\(\[stack\.runs, per_run \* seq, width\]\)/x.clone().flip([0]).reshape([stack.runs, per_run * seq, width])/' "$laws" independence
mutate 'unknown keys are let through'                $v/spec.rs            '0,/#\[serde\(deny_unknown_fields\)\]/ s/#\[serde\(deny_unknown_fields\)\]//' "$laws" yaml
mutate 'biases of bitfit are not copied'             $v/adapted.rs         's/spec\.bias == BiasSpec::All/false/' "$laws" copies
mutate 'a gradient is cut'                           $v/delta/svd_form.rs  '/fn forward/,/^    \}/ s/hidden\.matmul\(self\.p\.clone\(\)\)/hidden.matmul(self.p.clone().detach())/' "$laws" roles
mutate 'tables forget the gate'                      $v/embedding.rs       's/ \* lookup\.gate\(&here\.active\)//' "$laws" tables
mutate 'norms keep the gain of the base'             $v/norm.rs            's/part \* own\(&stack\.gamma, &self\.gamma\)/part * own(\&None, \&self.gamma)/' "$laws" norms
mutate 'A gets no gradient'                          $v/delta/low_rank.rs  's/hidden\.matmul\(self\.b\.clone\(\)\)/hidden.detach().matmul(self.b.clone())/' "$laws" planted
mutate 'one factor of the penalty is held'           $v/delta/svd_form.rs  's/vec!\[of\(q\), of\(p\)\]/vec![of(q).detach(), of(p)]/' "$laws" penalties
mutate 'dropout is left out'                         $v/adapted.rs         's/Some\(mask\) => x \* mask,/Some(_) => x,/' "$laws" dropout
mutate 'every stack takes the first rows'            $v/pass.rs            's/start = here\.end;/start += 0 * here.end;/' "$laws" stacks
mutate 'a run is masked by a product with zero'      $v/delta/low_rank.rs  's/hidden\.matmul\(self\.b\.clone\(\)\)/hidden.matmul(self.b.clone()) + self.b.clone().sum().unsqueeze::<3>() * 0.0/' "$laws" nan
mutate 'the shared pair follows the run'             $v/delta/shared_random.rs 's/draw_a\(self\.projection_seed/draw_a(at.seeds[0]/' "$laws" saved
t=crates/trainer/src
mutate 'a checkpoint of another recipe goes on'      $t/run.rs             's/plan\.id = cohort_id\(&plan\.cells\(\), setting\)\?;/plan.id = "cohort".to_owned();/' '--test study' work_of_another_recipe_begins_again_and_damage_is_said
mutate 'frozen update moves every drawn component'   $v/rank/nested_sampling.rs 's/Update::Frozen => active - 1\.\.active/Update::Frozen => 0..active/' '--lib' touched_components_follow_the_mode
mutate 'untouched components decay'                  $t/optimizer.rs       's/select\(mask\.as_ref\(\), value, new\)/new/' '--lib' an_untouched_component_keeps_value_moments_count_and_decay
mutate 'epsilon inside the root'                     $t/optimizer.rs       's/root\.times\(second\.clone\(\)\.sqrt\(\)\) \+ adam\.epsilon/root.times((second.clone() + 1e-3).sqrt())/' '--lib' runs_step_at_their_own_rate_and_clip
mutate 'the kept pattern is lost in a checkpoint'    $t/state.rs           's/kept: member\.kept\.clone\(\),/kept: None,/' '--test study' an_interrupted_study_resumes_to_the_same_bits
mutate 'the allocation keeps ties'                   $v/rank/budget.rs     's/\*score > sorted/*score >= sorted/' '--lib' allocation_is_global_and_drops_ties

rm -rf "$work"
echo
if [ "$survivors" -eq 0 ]; then echo "every mutant was noticed"; else echo "$survivors mutants survived"; exit 1; fi
