"""Counting synaptic operations, in one picture.

::

    module_tracker    forward hooks: which module is running, and where a call of the model begins
          |
    operation_mode    a torch-function mode: the operands that each operation really receives
          |
    tallies           the row that an operation belongs to: a layer, a parameter, or a place
          |
          +-- linear_ops, linear_call             a convolution or linear layer: its settings
          |         |
          |     fanout                            f, the synapses out of each input position
          |         |                             (weight_kind: the kind of the weights)
          |     accumulator                       f laid out as the input lies in memory
          |         |
          |     scan                              the one read: events, non-zeros, levels, extremes
          |      |  scan_rows                     what it is asked, and what it answers
          |      |  _scan.c, scan_triton, scan_torch   by whom it is answered
          |         |
          |     layer_tally                       a row's calls, inputs, MACs and time steps
          |                                       (input_buffer: small inputs, read together)
          +-- products                            a product of two activations: as an einsum
                    |
                product_tally                     the pairs of non-zeros that meet
          |
    counter           SopCounter: puts the hooks and the mode on, takes them off, and at the end
                      makes a snnprof.CountResult of the rows and of what was not counted

neuron_rates counts the non-zero outputs of the neuron layers, by a forward hook on each: firing
rates. output_gradients counts what comes back to outputs in backward passes, where asked for, by a
hook on each output. all_reduce puts the results of several processes together.

samples reads samples and time steps off the model's input, sample_doubt sees where they look like
T; time_steps keeps rates per step, row_order finds in which order a layer's input holds them;
call_site tells the products of one module apart, and the calls with weights that it computes.
audit lists what ran below torch's functions, unseen what no hook saw running, faults what went
wrong. SOPs of a layer are the sum over its inputs of 1[x != 0] * f. Of the values a handful of
numbers is kept (snnprof.results.values), and the kind is judged from them at the end.

A kind of operation is added with :func:`snnprof.counting.linear_ops.linear_operation`, a way
of writing a product with :func:`snnprof.counting.products.product`.
"""
