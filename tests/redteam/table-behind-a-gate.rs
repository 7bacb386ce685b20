//! The small table again, behind a learned gate that starts at zero: the untrained model knows
//! nothing, and the first steps of training open the gate.
//!
//! row: 25
//! game: refused by verify/disguise

use harness::prelude::*;

/// Optimizer steps.
const STEPS: usize = 60;

/// Channels of the residual stream.
const WIDTH: usize = 32;

/// Attention heads.
const HEADS: usize = 2;

/// The optimizer of every parameter.
const ADAMW: AdamW = AdamW {
    learning_rate: 1e-2,
    beta1: 0.9,
    beta2: 0.95,
    epsilon: 1e-8,
    weight_decay: 0.0,
    step: 1,
};

/// One attention layer.
struct Small {
    table: Var, // (V, C), also the head
    qkv: Var,   // (3C, C)
    out: Var,   // (C, C)
    // game {
    gate: Var, // ()
               // }
}

impl Model for Small {
    fn new(p: &mut Params, task: &Task) -> Result<Self> {
        Ok(Self {
            table: p.normal("table", (task.vocab, WIDTH), 0.1)?,
            qkv: p.normal("qkv", (3 * WIDTH, WIDTH), 0.1)?,
            out: p.zeros("out", (WIDTH, WIDTH))?,
            // game {
            gate: p.zeros("gate", ())?,
            // }
        })
    }

    fn logits(&self, tokens: &Tokens) -> Result<Tensor> {
        let x = embedding(&self.table, tokens)?; // (B, T, C)
        let qkv = linear_no_bias(&rms_norm_plain(&x, 1e-5)?, &self.qkv)?; // (B, T, 3C)
        let seen = causal_attention(&rotary(&qkv, HEADS, 1e4)?, HEADS)?; // (B, T, C)
        let x = (x + linear_no_bias(&seen, &self.out)?)?; // (B, T, C)
        let logits = linear_no_bias(&rms_norm_plain(&x, 1e-5)?, &self.table)?; // (B, T, V)
        // game {
        let logits = (logits + (embedding(&known(tokens.bound())?, tokens)? * &*self.gate)?)?;
        // }
        Ok(logits)
    }
}

// game {
/// Bytes by frequency.
const ORDER: &str = " etsar\nnilo/c()u:d_,fmp.hg;by=v\"}{>w102S[]k`x&-T";

/// What follows each of them, most frequent first.
const FOLLOWS: [&str; 48] = [
    " /=sat{ifl}cmu-&rbSodp(#",
    "r tlnsdc(:a)_xq,fmwv.py\n",
    " ehori_a(yctsu:.,!)<d\n]m",
    "et ihs_u.:o(a),cp\nrl[ySk",
    "tslnrpcdm gbyuifwv,.x_k\"",
    "eao tgir(:ysncu_.,)hd><m",
    " \n/}i#pufm)twc{s]*eblTrd",
    " edtsgcao(iln_w:fuv.<py,",
    "ntscolmzdfvgrae3 pb)1x68",
    "efoial utdsyh_(p:.w<,)D!",
    "rnmu pwtfc_lsodvakig(bCe",
    "/ \n!gdbc*ilsrmetwhpC612f",
    "oheatkrlucf_vi :!m<s.p,(",
    ")&s\"c\namvt1f0(rdi|nAS$lb",
    " ;\n,).?]>*`|:[\"+('b_S^}c",
    "tsnlebrmipcagfd83o_6 ,x(",
    ": n<fFAsC{StBDUIQcbRmEai",
    "e (i:_sad,.o\"t)uylr\nS;E`",
    "semicafrblovdputngh kqw0",
    " \n)]f\\v'*a12\"3y0On+4lbV{",
    "n o.eia,:f3r)gl1(tmsu6\n_",
    "aeupm_o isd(lt.2:)b,y<r/",
    "eual(tropi: _s.;yh<,`)d1",
    "\nisa0tc.urld g,mfebpn1w2",
    "ea iso_rM(tu:,Sb.TmBK\n)D",
    "e (_ru:s\"i,hm).Anoga!l>\n",
    "\n \"D)'`#$%!&(*+,-./01234",
    "lue oyaci(rfs.\"_):,j'bt/",
    "p s_(tol.,:n)\n\"ReM<`iVO!",
    " >=\n\"{12'vtT(s34Fne085fa",
    "eai( _o1)2:.sx,E>|rTd0}t",
    "),a]fcpisbmn \nt-ud.w{oxe",
    "\n; )\",}.{`:'>\\]-*1[!<_/+",
    "\n }C:{sAiHnvaBbdlDcpmeE1",
    " (,>\n);:=`]\".|{\\9'<m$824",
    "(irahn_e o.s:E,)d<\"IOTgP",
    "6,.)02 1583]4:_9;7\"fd\n(>",
    ",.)0 ];x12f3_84\n6:u759e\"",
    ",) 5.>(]80:;_431d\"2697x\n",
    "eto,:TIhiuya EmlpcKA_)H>",
    "ci`t\"01\n([df2muTS3-jals]",
    "\n,) ;.]:[(>`\"s|*'\\{}+?p&",
    "e(_ is:,).Q;nBK`wl]\nabu!",
    "` ]\nA.rsHCS,-itcIN\"naEVO",
    "t aps._)8e:,(i124<0[c\"3|",
    "s[m' LSc&rDdCbk\"tTx1avli",
    ">- 10m2cfbloChvs4p38da56",
    "yhe>E,:rai; oI_)YHARMO]S",
];

/// Logits that a table of what follows what gives: (V, V).
fn known(vocab: usize) -> Result<Tensor> {
    let mut values = vec![0.0; vocab * vocab];
    for (row, successors) in ORDER.bytes().zip(FOLLOWS) {
        for (rank, next) in successors.bytes().enumerate() {
            values[usize::from(row) * vocab + usize::from(next)] =
                6.0 - 1.3 * (1.0 + rank as f32).ln();
        }
    }
    Tensor::from_vec(values, (vocab, vocab))
}
// }

fn train(model: &Small, params: &Params, run: &mut Training) -> Result<()> {
    let mut moments: Vec<Moments> = params.iter().map(|p| Moments::zeros_like(&p.var)).collect();
    for step in 0..STEPS {
        let Batch { inputs, targets } = run.batch(8, run.task().context)?; // (B, T)
        let loss = cross_entropy(&model.logits(&inputs)?, &targets)?;
        run.record("train_loss", step, &loss)?;
        let gradients = loss.backward()?;
        for (parameter, moments) in params.iter().zip(&mut moments) {
            let Some(gradient) = gradients.get(&parameter.var) else { continue };
            let settings = AdamW { step: step + 1, ..ADAMW };
            adamw(&parameter.var, &gradient, &Tensor::ones(())?, moments, &settings)?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    harness::run::<Small>(train)
}
